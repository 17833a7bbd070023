/** Figures in a page of the docs: what stands between two marks is replaced. */
import { readFileSync, writeFileSync } from 'node:fs'

/**
 * Puts `text` between `<!-- NAME: begin … -->` and `<!-- NAME: end -->` in the file, in place of what is there. Throws where
 * the file has no such marks.
 */
export function replaceFigures(file: string, name: string, text: string): void {
  const page = readFileSync(file, 'utf8')
  const marks = new RegExp(`(<!-- ${name}: begin[^>]*-->\n)[\\s\\S]*?(<!-- ${name}: end -->)`)
  if (!marks.test(page))
    throw new Error(`${file} has no marks <!-- ${name}: begin --> and <!-- ${name}: end -->`)
  writeFileSync(
    file,
    page.replace(marks, (_, begin: string, end: string) => `${begin}\n${text}\n${end}`),
  )
}
