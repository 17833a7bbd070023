import { UsageError } from '../errors.ts'
import type { CommandDefinition } from './command.ts'

export const pinCommand = pinning('pin', true, 'keep a run for ever, whatever the rules of retention say')
export const unpinCommand = pinning(
  'unpin',
  false,
  'leave a run that was pinned to the rules of retention again',
)

function pinning(word: string, pinned: boolean, summary: string): CommandDefinition {
  return {
    words: word,
    summary,
    example: `backup-server ${word} 12`,
    define(command, invocation) {
      command.argument('<run>', 'the id of a run, as `list` tells it')
      command.action(async (text: string) => {
        const run = /^\d{1,15}$/.test(text) ? Number(text) : 0
        using catalog = await invocation.openCatalog({ run })
        if (!catalog.setPinned(run, pinned)) {
          throw new UsageError(`There is no run ${text} with an archive`, {
            hint: 'backup-server list tells the runs.',
          })
        }
        invocation.report({ run, pinned }, [
          `Run ${run} ${pinned ? 'stays until it is unpinned' : 'is left to retention'}.`,
        ])
      })
    },
  }
}
