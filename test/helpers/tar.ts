/**
 * Tar archives, written byte by byte for tests.
 */
export interface TarEntry {
  readonly name: string;
  readonly body: Uint8Array | string;
  /** '0' (default) is a file, '5' a folder, 'L' GNU's long name, 'x' pax records. */
  readonly type?: string;
  /** Of a ustar header. */
  readonly prefix?: string;
}

const padded = (body: Buffer): Buffer => Buffer.concat([body, Buffer.alloc(-body.length & 511)]);

function blocks({ name, body, type = '0', prefix = '' }: TarEntry): Buffer {
  const bytes = Buffer.from(body as Uint8Array);
  const header = Buffer.alloc(512);
  header.write(name, 0, 100);
  header.write('0000644\0', 100);
  header.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write(' '.repeat(8), 148);
  header.write(type, 156);
  header.write('ustar\x0000', 257);
  header.write(prefix, 345, 155);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, padded(bytes)]);
}

/** An archive with its end. */
export function tarOf(entries: readonly TarEntry[]): Buffer {
  return Buffer.concat([...entries.map(blocks), Buffer.alloc(1024)]);
}

/** A pax record `<length> path=<name>\n`, whose length counts itself. */
export function paxPath(name: string): string {
  const rest = ` path=${name}\n`;
  let length = Buffer.byteLength(rest);
  while (String(length).length + Buffer.byteLength(rest) !== length) length += 1;
  return `${length}${rest}`;
}

/** The two files of a sample. */
export function sample(key: string, image: Uint8Array, label: number | string): TarEntry[] {
  return [
    { name: `${key}.jpg`, body: image },
    { name: `${key}.cls`, body: String(label) },
  ];
}
