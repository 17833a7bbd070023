/** 10,000 wrong passwords over as many connections, and the other floods, in some minutes. `npm run floods`. */
import { runSteps } from './steps.ts'

process.env.WRONG_PASSWORDS ??= '10000'
process.exitCode = runSteps([
  { name: 'floods', command: ['node', '--test', 'test/connection-floods.test.ts'] },
])
