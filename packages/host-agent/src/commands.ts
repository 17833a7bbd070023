import { readBundle } from './bundle.ts'
import { type CheckReport, checkHost } from './check.ts'
import { describeProblem } from './errors.ts'
import { initialize } from './init.ts'
import { hashPassword } from './password-hash.ts'
import { type PasswordInput, readPassword } from './password-input.ts'
import { type Output, printable } from './report.ts'

/** What the commands need of the process around them. */
interface CommandSurroundings extends Output {
  uid: number
  now: () => number
}

/** `backup-host init`: sets the host up and says what comes next. */
export async function runInit(
  request: { bundle: string; settingsFile: string; force: boolean },
  surroundings: CommandSurroundings,
  json: boolean,
): Promise<void> {
  const { bundle, exposed } = await readBundle(request.bundle)
  const files = await initialize(bundle, { ...request, listen: `0.0.0.0:${bundle.port}` })
  const { problems } = checkHost(request.settingsFile, surroundings.uid, surroundings.now())
  const lines = [
    `This is host ${bundle.name} now:`,
    ...files.map((file) => `  ${file}`),
    '',
    'Next:',
    '  1. Look over the settings, above all what the server may read.',
    `  2. Delete the bundle, here and on the server: rm ${request.bundle}`,
    '  3. Start the service: systemctl enable --now backup-host',
  ]
  if (exposed) {
    lines.push(
      '',
      `Others could read ${request.bundle}, which holds the key and the password of this host. If they may`,
    )
    lines.push('have done so, add the host anew on the server.')
  }
  lines.push(...problems.map((problem) => `Problem: ${describeProblem(problem)}`))
  report({ name: bundle.name, files, bundleWasExposed: exposed, problems }, lines, surroundings, json)
}

/** `backup-host check`. Returns the exit code: 2 where something keeps the agent from working. */
export function runCheck(settingsFile: string, surroundings: CommandSurroundings, json: boolean): number {
  const checked = checkHost(settingsFile, surroundings.uid, surroundings.now())
  const { problems, warnings, certificateExpiresAtMs, settings } = checked
  const certificateExpires =
    certificateExpiresAtMs === null ? null : new Date(certificateExpiresAtMs).toISOString()
  const value = {
    ok: problems.length === 0,
    name: settings?.name ?? null,
    certificateExpires,
    problems,
    warnings,
  }
  report(value, describeCheck(settingsFile, checked), surroundings, json)
  return problems.length === 0 ? 0 : 2
}

/** `backup-host hash-password`. */
export async function runHashPassword(surroundings: Output & PasswordInput, json: boolean): Promise<void> {
  const hash = await hashPassword(await readPassword(surroundings))
  report({ passwordHash: hash }, [hash], surroundings, json)
}

function describeCheck(
  settingsFile: string,
  { settings, problems, warnings, certificateExpiresAtMs }: CheckReport,
): string[] {
  const lines = problems.map((problem) => `Problem: ${describeProblem(problem)}`)
  lines.push(...warnings.map((warning) => `Warning: ${warning}`))
  if (problems.length > 0 || settings === null) return lines
  const until =
    certificateExpiresAtMs === null
      ? ''
      : `, whose certificate is valid until ${new Date(certificateExpiresAtMs).toISOString()}`
  return [...lines, `${settingsFile} is good: host ${settings.name}${until}`]
}

function report(value: unknown, lines: readonly string[], { stdout }: Output, json: boolean): void {
  stdout.write(json ? `${JSON.stringify(value)}\n` : `${lines.map(printable).join('\n')}\n`)
}
