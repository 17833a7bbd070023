/** What every commit must pass: types, lint, unit tests. `npm run check`. */
import { runSteps, type Step, testCommand, unitTests } from './steps.ts'

const steps: Step[] = [
  { name: 'types', command: ['tsc', '-p', 'tsconfig.json'] },
  { name: 'lint', command: ['biome', 'check', '--error-on-warnings', '.'] },
  { name: 'unit tests', command: testCommand(unitTests()) },
]

process.exitCode = runSteps(steps)
