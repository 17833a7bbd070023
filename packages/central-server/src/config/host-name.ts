import { namePattern } from '@central-backup/protocol'

/** What a host may be called: the name is also a folder, a file name and part of a certificate. */
export const hostNameExpectation =
  '1 to 63 letters, digits, dots, hyphens or underscores, beginning with a letter or digit'

export function isHostName(text: string): boolean {
  return namePattern.test(text)
}
