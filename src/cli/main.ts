#!/usr/bin/env node
/**
 * The command line: `tenon train | eval | predict | models | info`.
 */
import { Command, CommanderError } from 'commander';

import { TensorError, versions } from '../tensor/index.js';
import { evalCommand } from './eval.js';
import { infoCommand } from './info.js';
import { modelsCommand } from './models.js';
import { predictCommand } from './predict.js';
import { trainCommand } from './train.js';

const program = new Command('tenon')
  .description('Train, evaluate and use vision transformers.')
  .version(versions()['tenon'])
  .showHelpAfterError('(run it with --help to see the options)')
  .exitOverride()
  .addCommand(trainCommand())
  .addCommand(evalCommand())
  .addCommand(predictCommand())
  .addCommand(modelsCommand())
  .addCommand(infoCommand());
for (const command of program.commands) {
  command.exitOverride().showHelpAfterError(`(tenon ${command.name()} --help lists the options)`);
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode; // commander has said what is wrong
  } else if (error instanceof TensorError) {
    console.error(`tenon: ${error.message}`);
    process.exitCode = 1;
  } else {
    throw error; // a defect: its stack is wanted
  }
}
