/**
 * What must not reach a terminal or a line of a log as it is: control characters (C0, DEL, C1), what separates lines or
 * changes the direction of text, and halves of surrogate pairs.
 */
const unprintable =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu

/**
 * `text` in a form that stands in one line and cannot command a terminal: what is unprintable is escaped as in source code,
 * `\x1b` or `\u{202e}`. Names and paths are data: each goes through here before it is printed.
 */
export function printable(text: string): string {
  return text.replaceAll(unprintable, (character) => {
    const code = character.codePointAt(0)!
    return code <= 0xff ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}
