/**
 * Settings from flags and configuration files.
 */
import { readFile } from 'node:fs/promises';

import { Option, type Command } from 'commander';
import { parse as parseYaml } from 'yaml';

import { fail } from '../tensor/error.js';
import { DEFAULTS, SETTINGS, type TrainSettings, describeIssue, parseSettings } from '../train/index.js';

/** What takes a flag without an argument back: `--no-x` for `--x`, and `--x` for `--no-x`. */
const opposite = ({ negate, long = '' }: Option): string =>
  negate ? long.replace('--no-', '--') : long.replace('--', '--no-');

/** Adds a flag for every setting, and unlisted what takes one without an argument back. */
export function addSettings(command: Command): void {
  const defaults: Readonly<Record<string, unknown>> = DEFAULTS;
  for (const [key, { flag, help }] of Object.entries(SETTINGS)) {
    const value = defaults[key];
    const text = Array.isArray(value) ? value.map((x) => +Number(x).toPrecision(3)).join(',') : String(value);
    const shown = ['undefined', 'false', '[object Object]'].includes(text) ? '' : ` (default: ${text})`;
    const option = new Option(flag, help + shown);
    const options = option.required ? [option] : [option, new Option(opposite(option)).hideHelp()];
    // Where --x comes before --no-x, a command line with neither of them leaves x undefined.
    for (const each of options.sort((a, b) => Number(a.negate) - Number(b.negate))) command.addOption(each);
  }
}

/** What a flag's text may stand for; the setting's schema decides. */
function readings(text: string): unknown[] {
  const numberOf = (part: string): number => (part.trim() === '' ? NaN : Number(part));
  const number = numberOf(text);
  const numbers = text.split(/[,x]/).map(numberOf);
  return [
    ...(Number.isNaN(number) ? [] : [number]),
    ...(numbers.length > 1 && !numbers.some(Number.isNaN) ? [numbers] : []),
    ...(text === 'true' || text === 'false' ? [text === 'true'] : []),
    text,
  ];
}

/** `['depth=6', 'qkNorm=true']` -> `{ depth: 6, qkNorm: true }` */
function keyValues(items: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    items.map((item) => {
      const [key, ...rest] = item.split('=');
      if (rest.length === 0) fail('--model-kwargs', 'VALUE', `expected key=value, got '${item}'`);
      return [key, readings(rest.join('='))[0]];
    }),
  );
}

/** The settings among a command's parsed options. @throws TensorError VALUE, with the flag */
export function settingsOf(options: Readonly<Record<string, unknown>>): TrainSettings {
  const settings: Record<string, unknown> = {};
  for (const [key, { flag, schema }] of Object.entries(SETTINGS)) {
    const option = new Option(flag);
    const value = options[option.attributeName()];
    if (value === undefined) continue;
    if (option.negate) {
      settings[key] = value === false;
      continue;
    }
    const name = option.long ?? flag;
    if (Array.isArray(value)) settings[key] = keyValues(value as string[]);
    else if (typeof value !== 'string') settings[key] = value;
    else {
      const fitting = readings(value).find((reading) => schema.safeParse(reading).success);
      if (fitting === undefined) {
        const issue = schema.safeParse(readings(value)[0]).error?.issues[0];
        fail(name, 'VALUE', `${describeIssue(issue ?? { message: 'another value' })}, got '${value}'`);
      }
      settings[key] = fitting;
    }
  }
  return settings;
}

/** The settings of a YAML or JSON file. @throws TensorError IO or VALUE, with the file */
export async function readSettingsFile(path: string): Promise<TrainSettings> {
  let values: unknown;
  try {
    values = parseYaml(await readFile(path, 'utf8')); // JSON is YAML
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    return fail('--config', 'IO', `expected YAML or JSON in ${path}, got ${reason}`);
  }
  return parseSettings(values ?? {}, path);
}
