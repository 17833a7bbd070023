import type { Catalog } from './catalog.ts'
import { keyRanges } from './key-ranges.ts'

/**
 * Forgets removed runs whose archives the run after them has taken over: what began or ended in one of them does so in that
 * run now, as its archive says. Nothing of it can be seen, since no run between them is kept. Can be done again after a
 * crash. `also` is written in one transaction with the last step, which survives a power loss.
 */
export function absorbRuns(
  catalog: Catalog,
  { run, generation }: { run: number; generation: number },
  absorbed: readonly number[],
  also: () => void,
): void {
  const { statements } = catalog
  if (absorbed.length > 0) {
    const runs = { run, absorbed: JSON.stringify(absorbed) }
    for (const range of keyRanges(catalog, generation)) {
      catalog.transaction(() => {
        statements.beginLater.run({ ...range, ...runs })
        statements.endLater.run({ ...range, ...runs })
      })
    }
  }
  catalog.durableTransaction(() => {
    for (const id of absorbed) statements.deleteRun.run(id)
    also()
  })
}
