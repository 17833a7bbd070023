import { closeSync, mkdirSync, openSync } from 'node:fs'
import type { TestContext } from 'node:test'
import koffi from 'koffi'

const libc = koffi.load(null)
const mount = libc.func('int mount(str, str, str, unsigned long, str)')
const unmount = libc.func('int umount2(str, int)')

const detach = 2

/**
 * A mount whose file system never answers, like one of a server that is gone: a FUSE mount whose other side reads no
 * request. Whoever looks at it, waits until this is disposed of; nothing but what is tested may.
 */
export class DeadMount implements Disposable {
  readonly path: string
  #fuse: number

  private constructor(path: string, fuse: number) {
    this.path = path
    this.#fuse = fuse
  }

  /** `null` where this machine cannot have one: then the test is skipped, with the reason. `user`: whose mount it is. */
  static create(t: TestContext, path: string, user = 0): DeadMount | null {
    if (process.geteuid!() !== 0) return skip(t, 'only root can mount')
    let fuse: number
    try {
      fuse = openSync('/dev/fuse', 'r+')
    } catch (error) {
      return skip(t, `this machine has no FUSE: ${(error as Error).message}`)
    }
    mkdirSync(path)
    if (mount('dead', path, 'fuse', 0, `fd=${fuse},rootmode=40000,user_id=${user},group_id=${user}`) === 0) {
      return new DeadMount(path, fuse)
    }
    closeSync(fuse)
    return skip(t, `cannot mount FUSE: errno ${koffi.errno()}`)
  }

  /** Ends the waiting: all calls fail from now on. Called again, it does nothing. */
  [Symbol.dispose](): void {
    if (this.#fuse < 0) return
    closeSync(this.#fuse)
    this.#fuse = -1
    unmount(this.path, detach)
  }
}

function skip(t: TestContext, reason: string): null {
  t.skip(reason)
  return null
}
