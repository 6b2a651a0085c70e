/** The worker process of our own side: serves the cases of `cases.ts`. */
import { cases } from './cases.ts';
import { serve, Unsupported } from './protocol.ts';

serve((workload, threads) => ({
  name: workload.name,
  threads,
  async setup() {
    const setup = cases[workload.name];
    if (setup === undefined) throw new Unsupported(`bench/cases.ts has no set-up for ${workload.name}.`);
    return setup(workload, threads);
  },
}));
