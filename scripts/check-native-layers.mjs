// Holds the native includes to binding -> ops -> backend -> core and binding -> image -> core, and Node's headers to binding/.
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = join(dirname(dirname(fileURLToPath(import.meta.url))), 'native');

// A device's folder, backend/cpu or backend/cuda, is no concern of the ops: they see the headers in backend/ itself.
const mayInclude = {
  core: ['core'],
  backend: ['backend', 'core'],
  'backend/cpu': ['backend/cpu', 'backend', 'core'],
  'backend/cuda': ['backend/cuda', 'backend', 'core'],
  ops: ['ops', 'backend', 'core'],
  image: ['image', 'core'],
  binding: ['binding', 'ops', 'backend', 'backend/cpu', 'image', 'core'],
  test: ['test', 'ops', 'backend', 'backend/cpu', 'image', 'core'],
  'test/cuda_emulator': ['test/cuda_emulator', 'test', 'backend', 'backend/cuda', 'core'],
};
const nodeHeader = /^(napi|node_api|js_native_api|node|v8|uv)\b.*\.h$/;

const errors = [];
for (const [folder, allowed] of Object.entries(mayInclude)) {
  const files = readdirSync(join(native, folder), { withFileTypes: true }).filter((entry) => entry.isFile());
  for (const file of files) {
    const path = join(native, folder, file.name);
    readFileSync(path, 'utf8')
      .split('\n')
      .forEach((line, index) => {
        const [, header] = line.match(/^\s*#\s*include\s*["<]([^">]+)/) ?? [];
        if (header === undefined) return;
        const where = `${relative(dirname(native), path)}:${index + 1}`;
        if (folder !== 'binding' && nodeHeader.test(header)) {
          errors.push(`${where}: only binding/ may include ${header}`);
        } else if (dirname(header) in mayInclude && !allowed.includes(dirname(header))) {
          errors.push(`${where}: ${folder}/ may include ${allowed.join('/, ')}/, not ${header}`);
        }
      });
  }
}

for (const error of errors) console.error(error);
process.exitCode = errors.length === 0 ? 0 : 1;
