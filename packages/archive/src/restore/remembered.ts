/** How many keys one restore remembers for each purpose, and how long they and their values may be together. */
const countMax = 100_000
const bytesMax = 32 * 1024 * 1024

/**
 * What a restore remembers by paths, which are as many and as long as an archive likes: what comes beyond some is not
 * taken, so that a look-up may find nothing. A value that is a string counts with its length.
 */
export class Remembered<V> {
  readonly #values = new Map<string, V>()
  #bytes = 0

  get(key: string): V | undefined {
    return this.#values.get(key)
  }

  set(key: string, value: V): void {
    const bytes = key.length + (typeof value === 'string' ? value.length : 0)
    if (this.#values.size === countMax || this.#bytes + bytes > bytesMax) return
    this.#bytes += bytes
    this.#values.set(key, value)
  }
}
