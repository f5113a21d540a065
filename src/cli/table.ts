import Table from 'cli-table3';

/** A table of text for a terminal: no colours, no lines between rows. */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  aligns: readonly ('left' | 'right')[],
): string {
  const none = { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' };
  const table = new Table({
    head: [...head],
    colAligns: [...aligns],
    style: { head: [], border: [] },
    chars: none,
  });
  for (const row of rows) table.push([...row]);
  return table.toString();
}
