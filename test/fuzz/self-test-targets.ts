/** Parsers that are broken on purpose, for the tests of the fuzzing itself. */
import fc from 'fast-check'
import type { FuzzTarget } from './target.ts'

const inputs = fc.uint8Array({ maxLength: 50 })

export const selfTestTargets: readonly FuzzTarget[] = [
  {
    name: 'self-test-throws',
    inputs,
    mutations: 'bytes',
    check(input) {
      if (input.includes(0xff)) throw new RangeError('a byte that the parser does not expect')
      return true
    },
  },
  {
    name: 'self-test-hangs',
    inputs,
    mutations: 'bytes',
    check(input) {
      while (input.includes(0xff));
      return true
    },
  },
  {
    name: 'self-test-ends-the-process',
    inputs,
    mutations: 'bytes',
    check(input) {
      if (input.includes(0xff)) process.kill(process.pid, 'SIGSEGV')
      return true
    },
  },
  {
    name: 'self-test-swells',
    inputs,
    mutations: 'bytes',
    check(input) {
      if (input.includes(0xff)) Buffer.alloc(512 * 1024 * 1024, 1)
      return true
    },
  },
  {
    name: 'self-test-dawdles',
    inputs,
    mutations: 'bytes',
    cpuMsMax: 150,
    check(input) {
      const begun = process.cpuUsage()
      const spentMs = () => {
        const { user, system } = process.cpuUsage(begun)
        return (user + system) / 1000
      }
      while (input.includes(0xff) && spentMs() < 300);
      return true
    },
  },
  { name: 'self-test-well', inputs, mutations: 'bytes', check: (input) => input.length > 10 },
]
