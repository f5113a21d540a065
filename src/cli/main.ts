#!/usr/bin/env node
/**
 * The command line: `tenon train | eval | predict | convert | models | info`.
 */
import { report, runCli } from './program.js';

// Whoever reads the output may have had enough: `tenon models | head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') report(error);
  process.exit();
});

await runCli(process.argv.slice(2));
