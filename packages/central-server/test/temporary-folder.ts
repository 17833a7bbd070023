import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// What tests write must not depend on who runs them: modules that the group may write to are refused.
process.umask(0o022)

/** A folder that is removed at the end of the block that holds it with `using`. */
export class TemporaryFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'central-server-test-'))

  /** The path of something in it. */
  at(...parts: string[]): string {
    return join(this.path, ...parts)
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}
