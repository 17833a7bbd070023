import { AgentError, describeProblem, SettingsError } from './errors.ts'

/** Where results and messages go. */
export interface Output {
  stdout: { write(text: string): unknown }
  stderr: { write(text: string): unknown }
}

const exitCodes: Readonly<Record<string, number>> = {
  usage: 2,
  settings: 2,
  bundle: 2,
  'already-exists': 2,
  'credentials-invalid': 2,
  sigint: 130,
  sigterm: 143,
}

/** The exit code of an error that ended the program; 1 for what has no meaning of ours. */
export function exitCodeOf(error: unknown): number {
  const { code } = (error ?? {}) as { code?: unknown }
  return (typeof code === 'string' ? exitCodes[code] : undefined) ?? 1
}

/** Prints an error: for people on standard error and, with `json`, as `{"error": …}` on standard output. */
export function reportError(error: unknown, { stdout, stderr }: Output, json: boolean): void {
  const report = describeError(error)
  const lines = [`backup-host: ${report.message}`]
  lines.push(...report.problems.map((problem) => `  ${describeProblem(problem)}`))
  if (report.hint !== '') lines.push(`Hint: ${report.hint}`)
  stderr.write(`${lines.map(printable).join('\n')}\n`)
  if (json) stdout.write(`${JSON.stringify({ error: report })}\n`)
}

/** Errors of this program, of the protocol, and of the system where it cannot listen explain themselves; others are bugs. */
function describeError(error: unknown) {
  const problems = error instanceof SettingsError ? error.problems : []
  if (!(error instanceof Error)) return { code: 'internal', message: String(error), hint: '', problems }
  const { code, hint, syscall } = error as { code?: unknown; hint?: unknown; syscall?: unknown }
  if (error instanceof AgentError || (typeof code === 'string' && typeof hint === 'string')) {
    return { code: String(code), message: error.message, hint: String(hint), problems }
  }
  if (syscall === 'listen' || syscall === 'bind') {
    const listenHint =
      'Look at `listen` in the settings, or --listen, and at what listens there already (ss -ltnp).'
    return { code: 'listen-failed', message: `Cannot listen: ${error.message}`, hint: listenHint, problems }
  }
  return {
    code: 'internal',
    message: error.stack ?? String(error),
    hint: 'This is a bug in backup-host.',
    problems,
  }
}

/** C0, DEL, C1, and what separates lines or changes the direction of text. */
const unprintable =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu

/** `text` so that it stands in one line and cannot command a terminal, escaped as in source code: `\x1b`, `\u{202e}`. */
export function printable(text: string): string {
  return text.replaceAll(unprintable, (character) => {
    const code = character.codePointAt(0)!
    return code <= 0xff ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}
