import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

// What tests write must not depend on who runs them: files that the group may write to are refused.
process.umask(0o022)

/** A folder that is removed at the end of the block that holds it with `using`. */
export class TemporaryFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'host-agent-test-'))

  /** The path of something in it. */
  at(...parts: string[]): string {
    return join(this.path, ...parts)
  }

  /** Writes a file, and the folders above it. Returns its path. */
  write(name: string, text: string, mode = 0o600): string {
    mkdirSync(dirname(this.at(name)), { recursive: true })
    writeFileSync(this.at(name), text, { mode })
    return this.at(name)
  }

  textOf(name: string): string {
    return readFileSync(this.at(name), 'utf8')
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}
