import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

/** Starts `swap-names.ts` with these arguments, and is there once that is at work. Disposing of it kills it. */
export async function neighbourAt(...args: readonly string[]): Promise<AsyncDisposable> {
  const script = join(import.meta.dirname, 'swap-names.ts')
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  await Promise.race([once(child.stdout!, 'data'), ended])
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL')
      await ended
    },
  }
}
