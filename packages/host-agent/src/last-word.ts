import { type Channel, type MessageOf, ProtocolError } from '@central-backup/protocol'

/** The server hangs up as soon as it has read it, which can be before this side knows that it was sent. */
export async function sendLastWord(
  channel: Channel,
  word: MessageOf<'finished' | 'restore-end' | 'summary'>,
): Promise<void> {
  try {
    await channel.send(word)
  } catch (error) {
    if (!(error instanceof ProtocolError) || error.code !== 'connection-lost') throw error
  }
}
