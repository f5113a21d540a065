export { exportOnnx } from './export.js';
export type { ExportOnnxOptions, OnnxExport, OnnxValue } from './export.js';
