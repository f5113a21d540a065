import js from '@eslint/js';
import { createNodeResolver, importX } from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

// Data flows one way: a folder of src/ may import those named here (and itself), never the others.
const layers = {
  tensor: [],
  ops: ['tensor'],
  nn: ['ops', 'tensor'],
  optim: ['ops', 'tensor'],
  data: ['ops', 'tensor'],
  io: ['ops', 'tensor'],
  models: ['nn', 'ops', 'tensor', 'io'],
  explain: ['models', 'nn', 'ops', 'tensor', 'io'],
  onnx: ['models', 'nn', 'ops', 'tensor', 'io'],
  inference: ['models', 'nn', 'ops', 'tensor', 'data', 'io', 'explain'],
  train: ['inference', 'models', 'nn', 'ops', 'tensor', 'optim', 'data', 'io', 'explain'],
  cli: ['train', 'inference', 'models', 'nn', 'ops', 'tensor', 'optim', 'data', 'io', 'explain', 'onnx'],
};

const folders = Object.keys(layers);
const layerZones = [
  ...folders.map((layer) => ({
    target: `./src/${layer}`,
    from: folders
      .filter((other) => other !== layer && !layers[layer].includes(other))
      .map((other) => `./src/${other}`),
    message: `src/${layer} may import ${[...layers[layer], 'native.ts'].join(', ')}.`,
  })),
  {
    target: './src/native.ts',
    from: folders.map((folder) => `./src/${folder}`),
    message: 'src/native.ts is the lowest layer and imports none.',
  },
  { target: './src', from: ['./test', './bench', './examples'], message: 'src/ imports only src/.' },
].filter((zone) => zone.from.length > 0);

export default tseslint.config(
  { ignores: ['dist/', 'build/', 'build-*/', 'runs/', 'docs/', 'coverage/', 'src/onnx/generated/'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    plugins: { 'import-x': importX },
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    settings: {
      'import-x/extensions': ['.ts', '.js'],
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
      'import-x/resolver-next': [
        createNodeResolver({ extensions: ['.ts', '.js'], extensionAlias: { '.js': ['.ts', '.js'] } }),
      ],
    },
    rules: {
      'import-x/no-cycle': 'error',
      'import-x/no-restricted-paths': ['error', { basePath: import.meta.dirname, zones: layerZones }],
      'import-x/no-default-export': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      eqeqeq: 'error',
    },
  },
  {
    // A cycle with tests in it has a helper in it, and is found there: looking twice took half of ESLint's time.
    files: ['test/**/*.ts'],
    ignores: ['test/helpers/**'],
    rules: { 'import-x/no-cycle': 'off' },
  },
  {
    // The boundary to the addon: the .node file has no types of its own.
    files: ['src/native.ts'],
    rules: {
      '@typescript-eslint/no-explicit-any': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
    },
  },
  {
    files: ['**/*.mjs', '*.js'],
    languageOptions: {
      globals: { URL: 'readonly', console: 'readonly', performance: 'readonly', process: 'readonly' },
    },
  },
);
