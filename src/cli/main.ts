#!/usr/bin/env node
/**
 * The command line: `tenon train | eval | predict | convert | models | info`.
 */
import { report, runCli } from './program.js';

// Whoever reads the output may have had enough: `tenon models | head`. Training goes on without a reader: hours of work are
// not the price of a closed window, all that it says is in the run's folder too, and Ctrl-C still stops it.
const trains = process.argv[2] === 'train';
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (trains && error.code === 'EPIPE') return;
  if (error.code !== 'EPIPE') report(error);
  process.exit();
});

await runCli(process.argv.slice(2));
