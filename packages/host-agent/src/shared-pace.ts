import { Pace } from '@central-backup/protocol'

/** The pace of all sessions of an agent together, as the settings want it. */
export class SharedPace {
  #bytesPerSecond: number | null = null
  #pace: Pace | null = null

  /** One and the same for as long as the settings say the same; `null` for as fast as it goes. */
  of(bytesPerSecond: number | null): Pace | null {
    if (bytesPerSecond !== this.#bytesPerSecond) {
      this.#bytesPerSecond = bytesPerSecond
      this.#pace = bytesPerSecond === null ? null : new Pace(bytesPerSecond)
    }
    return this.#pace
  }
}
