export { writeFileAtomic } from './atomic.js';
export type { FileContent } from './atomic.js';
export { readSafetensors, readSafetensorsHeader, saveSafetensors } from './safetensors.js';
export type {
  ReadSafetensorsOptions,
  SafetensorsEntry,
  SafetensorsFile,
  SafetensorsHeader,
} from './safetensors.js';
