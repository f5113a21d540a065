export { writeFileAtomic } from './atomic.js';
export type { FileContent } from './atomic.js';
export { CONVERSION, readSafetensors, readSafetensorsHeader, saveSafetensors } from './safetensors.js';
export type {
  ReadSafetensorsOptions,
  SafetensorsEntry,
  SafetensorsFile,
  SafetensorsHeader,
} from './safetensors.js';
