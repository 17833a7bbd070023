/** Everything: what `npm run check` does, then the behaviour tests, which drive the real programs. `npm test`. */
import { spawnSync } from 'node:child_process'
import { behaviourTests, runSteps, testCommand, unitTests } from './steps.ts'

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
    { name: 'tests', command: testCommand([...unitTests(), ...behaviourTests()]) },
  ])
}
