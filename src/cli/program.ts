/**
 * The command line as a function.
 */
import { Command, CommanderError } from 'commander';

import { TensorError, versions } from '../tensor/index.js';
import { convertCommand } from './convert.js';
import { embedCommand } from './embed.js';
import { evalCommand } from './eval.js';
import { explainCommand } from './explain.js';
import { exportCommand } from './export.js';
import { infoCommand } from './info.js';
import { modelsCommand } from './models.js';
import { predictCommand } from './predict.js';
import { trainCommand } from './train.js';

/** An error of the system, such as a folder that must not be read: its message is a sentence. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}

/** Says what went wrong, and sets the exit code. */
export function report(error: unknown): void {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode; // commander has said what is wrong
  } else if (error instanceof TensorError || isSystemError(error)) {
    console.error(`tenon: ${error.message}`);
    process.exitCode = 1;
  } else {
    throw error; // a defect: its stack is wanted
  }
}

/**
 * Runs a command line, and sets `process.exitCode`.
 *
 * @param args what follows `tenon`
 */
export async function runCli(args: readonly string[]): Promise<void> {
  try {
    await makeProgram().parseAsync(args, { from: 'user' });
  } catch (error) {
    report(error);
  }
}

/** @throws TensorError VALUE where the environment's settings cannot be read */
function makeProgram(): Command {
  const program = new Command('tenon')
    .description('Train, evaluate and use vision transformers.')
    .version(versions()['tenon'])
    .addCommand(trainCommand())
    .addCommand(evalCommand())
    .addCommand(predictCommand())
    .addCommand(embedCommand())
    .addCommand(explainCommand())
    .addCommand(convertCommand())
    .addCommand(exportCommand())
    .addCommand(modelsCommand())
    .addCommand(infoCommand());
  for (const command of [program, ...program.commands]) {
    const help = command === program ? 'tenon --help' : `tenon ${command.name()} --help`;
    command.exitOverride().configureOutput({
      writeOut: (text) => console.log(text.trimEnd()),
      outputError: (text) => {
        const sentence = text
          .replace(/^error: /, '')
          .trim()
          .replace(/\.$/, '') // commander ends some of its sentences
          .replaceAll('\n', ' ');
        console.error(`tenon: ${sentence}; see ${help}`);
      },
    });
  }
  return program;
}
