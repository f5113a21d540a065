/**
 * Serves a model over HTTP: POST an image and get its classes as JSON, or a picture of what speaks for one.
 *
 *   node dist/examples/serve.js runs/photos           # PORT=8080, PRECISION=float32
 *   curl --data-binary @cat.jpg localhost:8080/predict
 *   curl --data-binary @cat.jpg 'localhost:8080/explain?class=cat' > seen.png
 *   node dist/examples/serve.js --smoke               # an untrained model, a free port, and some requests to itself
 */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import sharp from 'sharp';

import {
  type Precision,
  SHAPE_CLASSES,
  TensorError,
  createModel,
  drawShape,
  openPredictor,
  saveModel,
} from '../src/index.js';

const MAX_BYTES = 10 * 2 ** 20; // of an upload
const STATUS: Readonly<Record<string, number>> = { IO: 422, VALUE: 400, BUSY: 503, DISPOSED: 503 };

const smoke = process.argv.includes('--smoke');
const path = smoke ? await untrained() : process.argv[2];
if (path === undefined) throw new Error("expected a run's folder, a model's folder or file, or --smoke");
const { PORT = '8080', PRECISION = 'float32' } = process.env;

const predictor = await openPredictor(path, { topk: 5, precision: PRECISION as Precision });
const server = createServer((request, response) => void answer(request, response));
server.maxConnections = 128; // with MAX_BYTES, a bound on the uploads in memory
server.requestTimeout = 30_000;
server.listen(smoke ? 0 : Number(PORT));
await once(server, 'listening');
const { port } = server.address() as AddressInfo;
console.log(`${predictor.info.name}, ${predictor.info.classes.length} classes, on port ${port}`);

/** Answers who is connected, then lets go of the model. */
const stop = async (): Promise<void> => {
  await new Promise((resolve) => server.close(resolve));
  await predictor.close();
};
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void stop());
if (smoke) await tryOut(`http://127.0.0.1:${port}`).finally(stop);

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort()); // a client that has left needs no answer
  const send = (status: number, body: object | Uint8Array): void => {
    const isImage = body instanceof Uint8Array;
    response.writeHead(status, {
      'content-type': isImage ? 'image/png' : 'application/json',
      ...(status === 503 && { 'retry-after': '1' }),
    });
    response.end(isImage ? body : JSON.stringify(body));
  };
  try {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
    if (pathname === '/health') return send(200, { pending: predictor.pending, ...predictor.stats });
    if (pathname !== '/predict' && pathname !== '/explain') return send(404, { error: 'no such path' });
    if (request.method !== 'POST') return send(405, { error: 'expected POST' });
    const image = await bodyOf(request);
    if (image === undefined) return send(413, { error: `expected at most ${MAX_BYTES} bytes` });
    const { signal } = gone;
    if (pathname === '/predict') return send(200, await predictor.predict(image, { signal }));
    const label = searchParams.get('class') ?? undefined;
    send(200, (await predictor.explain(image, { label, signal })).png);
  } catch (error) {
    if (gone.signal.aborted) return;
    const status = (error instanceof TensorError && STATUS[error.code]) || 500;
    if (status === 500) console.error(error);
    send(status, { error: status === 500 ? 'internal error' : (error as Error).message });
  }
}

/** The body of a request; undefined where it is too large, after its end: a client that still sends would miss the answer. */
async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= MAX_BYTES) chunks.push(chunk);
  }
  return bytes <= MAX_BYTES ? Buffer.concat(chunks) : undefined;
}

/** Twenty images at once, then what must not be answered as if it were one. */
async function tryOut(url: string): Promise<void> {
  const expect = (what: string, found: unknown, expected: unknown): void => {
    if (found !== expected) throw new Error(`${what}: expected ${String(expected)}, got ${String(found)}`);
  };
  const post = (to: string, body: string | Uint8Array<ArrayBuffer>): Promise<Response> =>
    fetch(url + to, { method: 'POST', body });
  const images = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      const { data, height, width } = drawShape(0, i, 64).image;
      return new Uint8Array(
        await sharp(data, { raw: { height, width, channels: 3 } })
          .jpeg()
          .toBuffer(),
      );
    }),
  );
  const answers = await Promise.all(images.map((image) => post('/predict', image)));
  for (const [i, response] of answers.entries()) {
    expect('status', response.status, 200);
    const { top } = (await response.json()) as { top: { label: string; probability: number }[] };
    const own = await predictor.predict(images[i]);
    expect('classes', top.length, 5);
    expect('the most probable class', top[0].label, own.top[0].label);
    expect('its probability', top[0].probability.toFixed(5), own.top[0].probability.toFixed(5));
  }
  const { images: computed, batches } = predictor.stats;
  console.log(`${computed} images in ${batches} batches`);
  const broken = await post('/predict', images[0].subarray(0, 300));
  expect('a broken image', broken.status, 422);
  console.log('a broken image:', await broken.json());
  expect('text', (await post('/predict', 'no image')).status, 422);
  expect('too many bytes', (await post('/predict', new Uint8Array(MAX_BYTES + 1))).status, 413);
  expect('GET', (await fetch(`${url}/predict`)).status, 405);
  const seen = await post('/explain?class=star', images[0]);
  const png = await sharp(Buffer.from(await seen.arrayBuffer())).metadata();
  expect('the explanation', `${seen.status} ${png.format} ${png.width}`, '200 png 224');
  expect('a class that is none', (await post('/explain?class=pink', images[0])).status, 400);
  expect('health', (await fetch(`${url}/health`)).status, 200);
}

/** The file of a small model of shapes that has learnt nothing. */
async function untrained(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tenon-example-'));
  process.once('exit', () => rmSync(folder, { recursive: true }));
  const options = { depth: 2, numClasses: SHAPE_CLASSES.length };
  const model = createModel('vit_micro_patch4_32', options);
  const half = [0.5, 0.5, 0.5];
  const input = { size: [32, 32], mean: half, std: half, interpolation: 'bicubic', cropPct: 1 } as const;
  const file = join(folder, 'model.safetensors');
  await saveModel(file, model.stateDict(), {
    name: 'vit_micro_patch4_32',
    options,
    classes: SHAPE_CLASSES,
    input,
  });
  return file;
}
