/** Folders of packages/edgewise/src, outermost idea last: each imports only from those before it. */
const order = [
  'base',
  'tensor',
  'autodiff',
  'onnx',
  'compile',
  'runtime',
  'kernels',
  'params',
  'optim',
  'nn',
  'models',
  'data',
  'train',
  'probes',
  'diagnose',
  'node',
];

const library = '^packages/edgewise/src';

module.exports = {
  forbidden: [
    ...order.slice(0, -1).map((folder, i) => ({
      name: `${folder}-imports-only-what-comes-before-it`,
      comment: `Order of folders: ${order.join(', ')}.`,
      severity: 'error',
      from: { path: `${library}/${folder}/` },
      to: { path: `${library}/(${order.slice(i + 1).join('|')})/` },
    })),
    {
      name: 'library-runs-everywhere',
      comment: 'Only src/node may use what Node alone has.',
      severity: 'error',
      from: { path: library, pathNot: `${library}/node(/|\\.ts$)` },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'library-knows-no-lab',
      severity: 'error',
      from: { path: library },
      to: { path: '^packages/(lab|dashboard|adapters-)' },
    },
    {
      name: 'adapters-know-the-library-only',
      severity: 'error',
      from: { path: '^packages/adapters-([^/]+)/src' },
      to: { path: '^packages/(lab|dashboard|adapters-(?!$1/))' },
    },
    {
      name: 'no-cycles-between-folders',
      severity: 'error',
      from: { path: `${library}/([^/]+)/` },
      to: { path: `${library}/(?!$1/)`, circular: true },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(dist|test)/' },
  },
};
