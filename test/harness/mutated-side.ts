import type { Message } from '@central-backup/protocol'
import { rawMessage } from './dialer.ts'
import { type Mutation, mutate, type Wire } from './session-mutations.ts'

/** Says the messages of one side of a session in turn, one of them with a mutation, or none where that is `null`. */
export class MutatedSide {
  /** As they would be without the mutation. */
  readonly said: Message[] = []
  readonly #mutation: Mutation | null
  readonly #write: (bytes: Buffer) => void
  readonly #end: () => void
  #moved: Wire[] | null = null

  constructor(mutation: Mutation | null, write: (bytes: Buffer) => void, end: () => void) {
    this.#mutation = mutation
    this.#write = write
    this.#end = end
  }

  say(message: Message): void {
    const place = this.said.push(message) - 1
    const mutation = this.#mutation
    if (mutation?.kind === 'moved' && mutation.to === place && this.#moved !== null) this.#send(this.#moved)
    if (mutation?.message !== place) {
      this.#send(mutate([message], { kind: 'moved', message: 0, to: 0 }))
      return
    }
    if (mutation.kind === 'moved') this.#moved = mutate([message], { ...mutation, message: 0, to: 0 })
    else this.#send(mutate([message], { ...mutation, message: 0 }))
    if (mutation.kind === 'ended') this.#end()
  }

  #send(wires: readonly Wire[]): void {
    for (const { number, payload, length } of wires) this.#write(rawMessage(number, payload, length))
  }
}
