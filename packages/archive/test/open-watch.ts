import { closeSync, readSync } from 'node:fs'
import koffi from 'koffi'

const libc = koffi.load(null)
const inotifyInit = libc.func('int inotify_init1(int)')
const inotifyAddWatch = libc.func('int inotify_add_watch(int, str, uint32_t)')

const nonBlocking = 0o4000
const opened = 0x20

/** Has the kernel tell which files of a folder somebody opens, be it for an instant. */
export class OpenWatch implements Disposable {
  readonly #fd: number

  constructor(folder: string) {
    this.#fd = inotifyInit(nonBlocking)
    if (inotifyAddWatch(this.#fd, folder, opened) < 0) throw new Error(`inotify: errno ${koffi.errno()}`)
  }

  /** Names in the folder that were opened since the last call; `''` is the folder itself. */
  names(): string[] {
    const events = Buffer.alloc(1 << 20)
    let length: number
    try {
      length = readSync(this.#fd, events)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return []
      throw error
    }
    const names: string[] = []
    for (let at = 0; at < length; ) {
      // struct inotify_event: wd 4, mask 4, cookie 4, len 4, name (inotify(7)).
      const nameBytes = events.readUInt32LE(at + 12)
      names.push(events.toString('latin1', at + 16, at + 16 + nameBytes).replace(/\0+$/, ''))
      at += 16 + nameBytes
    }
    return names
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}
