/** Everything: what `npm run check` does, then the behaviour tests, which drive the real programs. `npm test`. */
import { spawnSync } from 'node:child_process'
import { behaviourTests, runSteps, unitTests } from './steps.ts'

const missing = ['tar', 'zstd', 'openssl'].filter(
  (program) => spawnSync(program, ['--version']).error !== undefined,
)
if (missing.length > 0) {
  process.stderr.write(
    `central-backup: the tests need ${missing.join(', ')}; on Debian: apt-get install ${missing.join(' ')}\n`,
  )
  process.exitCode = 1
} else {
  process.exitCode = runSteps([
    { name: 'types', command: ['tsc', '-p', 'tsconfig.json'] },
    { name: 'lint', command: ['biome', 'check', '--error-on-warnings', '.'] },
    // One runner for all tests, so that its summary counts them all.
    {
      name: 'tests',
      command: ['node', '--test', '--test-concurrency=2', ...unitTests(), ...behaviourTests()],
    },
  ])
}
