/**
 * HTML that cannot be broken into: what is put into a template is escaped unless it is markup itself.
 */

/** Finished markup. Only `html` and `raw` make it. */
export class Markup {
  constructor(readonly text: string) {}
}

/** What a template takes; lists are joined, and `undefined` is nothing. */
export type Content = string | number | Markup | undefined | readonly Content[];

/**
 * Markup from a template, for text and for quoted attributes.
 *
 * @example
 * html`<b title="${name}">${name}</b>`; // name '<i>' gives <b title="&lt;i&gt;">&lt;i&gt;</b>
 */
export function html(parts: TemplateStringsArray, ...contents: readonly Content[]): Markup {
  // Indentation is the source's, not the page's.
  return new Markup(parts.map((part, i) => part.replace(/\n\s+/g, '\n') + textOf(contents[i])).join(''));
}

/** Text that is markup already, written by us or by a library that escapes. */
export function raw(text: string): Markup {
  return new Markup(text);
}

/** Text without its meaning in HTML, between tags and in quoted attributes. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

function textOf(content: Content): string {
  if (content === undefined) return '';
  if (typeof content === 'string') return escapeHtml(content);
  if (typeof content === 'number') return String(content);
  if (content instanceof Markup) return content.text;
  return content.map(textOf).join('');
}
