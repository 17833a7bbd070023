import { flushCompileCache } from 'node:module'
import { exitNow } from '@central-backup/archive'
import { runProgram } from './cli.ts'

// A reader that has seen enough, like `head`, is no failure.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit()
    throw error
  })
}

process.exitCode = await runProgram(process.argv.slice(2), {
  workingDirectory: process.cwd(),
  uid: process.geteuid!(),
  now: Date.now,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
})

// All is written by now but what Node has compiled, which it would keep later.
process.once('beforeExit', (code) => {
  flushCompileCache()
  exitNow(code)
})
