/**
 * What JSON allows in a string and a terminal takes for a command, or shows as another text: DEL and C1, what separates
 * lines, and what changes the direction of text. C0 is escaped in any JSON.
 */
const unprintable = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g

/** The same JSON in a form that cannot command a terminal, whatever names and texts of other machines are in it. */
export function escapeJson(json: string): string {
  return json.replaceAll(
    unprintable,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
