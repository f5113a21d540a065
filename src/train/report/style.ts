/**
 * The look of a report: light and dark by the reader's system, two columns on a desk and one on a phone.
 */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --text: #16191f; --muted: #5f6875; --line: #e6e8ec; --axis: #aeb5c0;
  --first: #2463eb; --second: #d9570b; --third: #0f8a74; --bad: #c8321f; --good: #18794e;
  --hit: 36 99 235; --miss: 232 106 23; --on-heat: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101216; --card: #191c22; --text: #e8eaee; --muted: #9aa3b0; --line: #2a2f38; --axis: #545d6b;
    --first: #74a4ff; --second: #ff9d5c; --third: #47cdb0; --bad: #ff8573; --good: #5fd39b;
    --hit: 92 145 255; --miss: 255 138 61; --on-heat: #0c0e12;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 36px 20px 56px; display: grid; gap: 16px; }
main > * { min-width: 0; }
h1, h2, h3, p, figure, ul, ol, dl, dd { margin: 0; padding: 0; }
ul, ol { list-style: none; }
h1 { font-size: 28px; line-height: 1.2; letter-spacing: -0.015em; overflow-wrap: anywhere; }
h2 { font-size: 17px; letter-spacing: -0.005em; }
h3 { font-size: 15px; }
small, .note, .facts { color: var(--muted); font-weight: 400; }
.note, .facts { margin-top: 4px; }
.note, small { font-size: 13px; }
.number, b, .tile strong, td, svg { font-variant-numeric: tabular-nums; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; min-width: 0; }
.pair { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.charts { display: grid; gap: 16px; grid-template-columns: repeat(2, minmax(0, 1fr)); }
@media (max-width: 660px) { .charts { grid-template-columns: minmax(0, 1fr); } }
.stack { display: grid; gap: 16px; grid-template-columns: minmax(0, 1fr); }
.scroll { overflow-x: auto; margin-top: 12px; }

.tiles { display: grid; gap: 12px; grid-template-columns: 1.5fr repeat(5, 1fr); }
@media (max-width: 980px) { .tiles { grid-template-columns: repeat(3, 1fr); } }
@media (max-width: 520px) { .tiles { grid-template-columns: repeat(2, 1fr); } }
.tile { padding: 14px 16px; }
.tile dt { color: var(--muted); font-size: 13px; }
.tile strong { display: block; font-size: 23px; font-weight: 650; line-height: 1.3; letter-spacing: -0.02em; white-space: nowrap; }
.tile.lead strong { color: var(--first); }
.warning { border-left: 4px solid var(--second); }

.chart { padding: 14px 14px 8px; display: flex; flex-direction: column; justify-content: space-between; }
.chart figcaption { padding: 0 6px; }
.legend { display: flex; flex-wrap: wrap; gap: 0 16px; margin-top: 2px; font-size: 13px; color: var(--muted); }
.legend span { white-space: nowrap; }
.legend b { color: var(--text); font-weight: 600; }
.key { width: 22px; height: 8px; margin-right: 6px; fill: none; vertical-align: middle; }
.chart > svg { display: block; width: 100%; height: auto; margin-top: 6px; }
.at rect { fill: transparent; }
.at path { stroke: var(--axis); stroke-dasharray: 2 2; }
.at text { font-size: 12px; font-weight: 600; text-anchor: end; fill: var(--text); }
.at path, .at circle, .at text { opacity: 0; pointer-events: none; }
.at:hover path, .at:hover circle, .at:hover text { opacity: 1; }

table { border-collapse: collapse; }
.list { width: 100%; font-size: 14px; }
.list th { text-align: left; color: var(--muted); font-weight: 500; font-size: 13px; }
.list th, .list td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.list th:last-child, .list td:last-child { padding-right: 0; }
.list tbody tr:last-child td { border-bottom: 0; }
.list .number { text-align: right; }

.matrix { border-collapse: separate; border-spacing: 2px; font-size: 13px; }
.matrix th { font-weight: 500; color: var(--muted); }
.matrix th span { display: block; max-width: 120px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.matrix th[scope='row'] { text-align: right; padding-right: 6px; position: sticky; left: 0; background: var(--card); z-index: 1; }
.matrix th[scope='col'] { vertical-align: bottom; padding-bottom: 4px; }
.matrix th[scope='col'] span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 120px; margin: 0 auto; }
.matrix tbody td { width: 44px; min-width: 36px; height: 34px; text-align: center; border-radius: 5px; }
.matrix .hit { background: rgb(var(--hit) / var(--heat)); box-shadow: inset 0 0 0 1px rgb(var(--hit) / 0.35); }
.matrix .miss { background: rgb(var(--miss) / var(--heat)); }
.matrix .miss[style*='--heat:0.000'] { background: var(--page); }
.matrix .strong { color: var(--on-heat); font-weight: 600; }

.bars { margin-top: 12px; display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); grid-auto-rows: minmax(auto, 36px); gap: 7px 48px; font-size: 14px; }
.bars li { display: grid; grid-template-columns: minmax(70px, 145px) minmax(50px, 1fr) 140px; min-height: 21px; gap: 12px; align-items: center; }
.bars .number { display: grid; grid-template-columns: 58px 1fr; align-items: baseline; text-align: right; white-space: nowrap; }
.name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bar { display: block; height: 8px; border-radius: 4px; background: var(--line); overflow: hidden; }
.bar i { display: block; height: 100%; border-radius: 4px; background: var(--first); }

.samples { display: grid; gap: 12px; margin-top: 14px; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); }
.sample { position: relative; border: 1px solid var(--line); border-radius: 10px; overflow: hidden; min-width: 0; }
.sample img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--page); image-rendering: pixelated; }
.sample .picture { display: block; position: relative; outline-offset: -3px; }
.sample .map { position: absolute; inset: 0; opacity: 0; image-rendering: auto; transition: opacity 0.15s; }
.sample .picture:hover .map, .sample .picture:focus .map, .switch:has(:checked) ~ .samples .map { opacity: 1; }
.switch { display: inline-block; margin-top: 8px; font-size: 13px; color: var(--muted); cursor: pointer; }
.sample figcaption { padding: 8px 10px 10px; font-size: 13px; border-top: 3px solid var(--line); }
.sample.right figcaption { border-top-color: var(--good); }
.sample.wrong figcaption { border-top-color: var(--bad); }
.sample.wrong { border-color: var(--bad); }
.verdict { position: absolute; top: 8px; right: 8px; padding: 1px 8px; border-radius: 10px; font-size: 12px; font-weight: 650; color: var(--on-heat); background: var(--good); }
.wrong .verdict { background: var(--bad); }
.truth { display: block; font-weight: 650; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.sample ol { display: grid; gap: 4px; margin-top: 5px; }
.sample li { display: grid; grid-template-columns: 1fr auto; gap: 1px 6px; color: var(--muted); }
.sample li:first-child { color: var(--text); }
.sample li .bar { grid-column: 1 / -1; height: 4px; }
.sample li .bar i { background: var(--axis); }
.sample li.true .bar i { background: var(--good); }
.sample.wrong li:first-child .bar i { background: var(--bad); }

.settings { columns: 3 260px; column-gap: 36px; margin-top: 10px; font-size: 14px; }
.settings div { display: flex; justify-content: space-between; gap: 14px; padding: 4px 0; break-inside: avoid; border-bottom: 1px solid var(--line); }
.settings dt { color: var(--muted); white-space: nowrap; }
.settings dd { text-align: right; overflow-wrap: anywhere; min-width: 0; }
summary { cursor: pointer; color: var(--muted); font-size: 14px; }
details[open] > summary { margin-bottom: 8px; }
details.card > summary { color: var(--text); font-weight: 650; font-size: 17px; }
.bars + details { margin-top: 12px; }
footer { color: var(--muted); font-size: 13px; text-align: center; }
@media (max-width: 520px) {
  main { padding: 20px 12px 40px; gap: 12px; }
  .tiles, .pair, .stack, .charts { gap: 12px; }
  .card { padding: 14px; }
  .chart { padding: 12px 8px 4px; }
  .samples { grid-template-columns: repeat(2, 1fr); }
  .matrix { font-size: 11px; border-spacing: 1px; }
  .matrix th span { max-width: 76px; }
  .matrix th[scope='row'] { padding-right: 4px; }
  .matrix tbody td { width: 26px; min-width: 26px; height: 26px; border-radius: 3px; padding: 0; }
  .bars li { grid-template-columns: minmax(60px, 92px) minmax(30px, 1fr) 146px; gap: 8px; }
}
@media print { .card { break-inside: avoid; } }
`;
