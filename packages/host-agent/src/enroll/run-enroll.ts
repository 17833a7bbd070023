import { isIPv6 } from 'node:net'
import { hostname } from 'node:os'
import { enrolmentMsMax, nameCharsMax, namePattern } from '@central-backup/protocol'
import { checkHost } from '../check.ts'
import { describeProblem, StoppedBySignalError, UsageError } from '../errors.ts'
import { type Output, printable } from '../report.ts'
import { type ListenAddress, parseListenAddress, portDefault } from '../settings-schema.ts'
import { joinAddress, reachableAddresses } from './addresses.ts'
import { type Enrolled, Enrolment } from './enrolment.ts'
import { PendingKey, pendingKeyFile } from './pending-key.ts'

/** Connections that came to nothing are told of, but not for as long as a stranger likes. */
const refusalsToldMax = 50

export interface EnrollRequest {
  settingsFile: string
  /** `IP:PORT`; `undefined` for the agent's port on all addresses of IPv4. */
  listen: string | undefined
  /** `HOST` or `HOST:PORT`, where the server reaches this host; `undefined` for what the interfaces say. */
  address: string | undefined
  /** How long the code is good; `undefined` for `enrolmentMsMax`, which is the most. */
  seconds: string | undefined
  force: boolean
}

interface EnrollSurroundings extends Output {
  uid: number
  now: () => number
}

/**
 * `backup-host enroll`: waits for the server, and says what to do there and what came of it. Only the line to be run on the
 * server goes to standard output, and with `json` an object a line: `waiting`, then `enrolled`.
 */
export async function runEnroll(
  request: EnrollRequest,
  surroundings: EnrollSurroundings,
  json: boolean,
): Promise<void> {
  const { settingsFile, force } = request
  const listen = readListen(request.listen)
  const validMs = readSeconds(request.seconds)
  const given = request.address === undefined ? null : readAddress(request.address)
  const { now, stderr, uid } = surroundings
  const note = (text: string) => stderr.write(`${printable(text)}\n`)
  const key = await PendingKey.take(settingsFile, uid, force)
  const onRefused = limited(note)
  const enrolment = new Enrolment(key, { settingsFile, listen, validMs, force, now, onRefused })
  const stop = (signal: NodeJS.Signals) => void enrolment.close(stopped(signal as 'SIGINT' | 'SIGTERM'))
  process.on('SIGINT', stop).on('SIGTERM', stop)
  try {
    const port = await enrolment.listen()
    const places = given === null ? reachableAddresses(listen.address) : [given.host]
    const addresses = places.map((place) => joinAddress(place, given?.port ?? port))
    tellWaiting({ code: enrolment.code, addresses, validMs, untilMs: now() + validMs }, surroundings, json)
    const enrolled = await enrolment.ended
    tellEnrolled(enrolled, settingsFile, surroundings, json)
  } catch (error) {
    await enrolment.close(error as Error)
    if (enrolment.hasWritten || key.isResumed) note(describeRemains(enrolment.hasWritten, settingsFile))
    else await key.remove()
    throw error
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
    await enrolment.close(new Error('the enrolment has ended'))
  }
}

function readListen(text: string | undefined): ListenAddress {
  if (text === undefined) return { address: '0.0.0.0', port: portDefault }
  const listen = parseListenAddress(text)
  if (listen !== null) return listen
  throw new UsageError(`--listen: ${JSON.stringify(text)} is no IP:PORT`, {
    hint: `Expected an address of this machine, like 192.0.2.10:${portDefault} or "[::]:${portDefault}".`,
  })
}

function readSeconds(text: string | undefined): number {
  const secondsMax = enrolmentMsMax / 1000
  const seconds = text === undefined ? secondsMax : Number(text)
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= secondsMax) return seconds * 1000
  throw new UsageError(
    `--seconds: found ${JSON.stringify(text)}; expected an integer from 1 to ${secondsMax}`,
  )
}

/** Only what a shell takes as it is, since the line that it becomes part of is to be copied. */
function readAddress(text: string): { host: string; port: number | null } {
  if (isIPv6(text)) return { host: text, port: null }
  const [, inBrackets, plain, digits] = /^(?:\[([^\]]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  const host = inBrackets ?? plain
  const port = digits === undefined ? null : Number(digits)
  const isGood =
    host !== undefined && (inBrackets === undefined || isIPv6(inBrackets)) && !host.startsWith('-')
  if (isGood && (port === null || (port >= 1 && port <= 65_535))) return { host, port }
  throw new UsageError(`--address: ${JSON.stringify(text)} is no HOST or HOST:PORT`, {
    hint: 'Expected where the server reaches this machine, like web1.example.org or 192.0.2.10:7911.',
  })
}

interface Waiting {
  code: string
  /** Where the server may reach this host, the likeliest first: `HOST:PORT`. */
  addresses: readonly string[]
  validMs: number
  untilMs: number
}

function tellWaiting(waiting: Waiting, { stdout, stderr }: Output, json: boolean): void {
  const { code, addresses, validMs, untilMs } = waiting
  const name = suggestedName()
  // Brackets are a pattern to a shell.
  const target = addresses[0]!.replace(/^\[.*$/, "'$&'")
  const line = `backup-server host enroll ${name} ${target} ${code}`
  const until = new Date(untilMs).toISOString()
  if (json) {
    stdout.write(`${JSON.stringify({ event: 'waiting', line, name, addresses, code, until })}\n`)
    return
  }
  const minutes = validMs >= 120_000 ? `${Math.round(validMs / 60_000)} minutes` : `${validMs / 1000} seconds`
  const others = addresses.slice(1)
  stderr.write(
    `This machine waits to be enrolled. Run this line on the server, as the user of backup-server, within ${minutes}:\n\n`,
  )
  stdout.write(`  ${line}\n`)
  const remarks = [
    '',
    `${name} is what the host will be called there: another name is fine, too. Options say what is backed up: --path, --exclude.`,
    ...(others.length === 0 ? [] : [`Other addresses of this machine: ${others.join(', ')}`]),
    'The code is a secret until it is used: who knows it can become the server of this machine. Ctrl-C ends this.',
  ]
  stderr.write(`${remarks.map(printable).join('\n')}\n`)
}

/** The name of the machine without its domain, as far as it is a good one. */
function suggestedName(): string {
  const [first = ''] = hostname().split('.')
  const name = first.replaceAll(/[^A-Za-z0-9_-]/g, '-').slice(0, nameCharsMax)
  return namePattern.test(name) ? name : 'NAME'
}

function tellEnrolled(
  enrolled: Enrolled,
  settingsFile: string,
  { stdout, uid, now }: EnrollSurroundings,
  json: boolean,
): void {
  const { problems } = checkHost(settingsFile, uid, now())
  if (json) {
    stdout.write(`${JSON.stringify({ event: 'enrolled', ...enrolled, problems })}\n`)
    return
  }
  const { name, server, files } = enrolled
  const lines = [
    `This is host ${name} now, of the server at ${server}:`,
    ...files.map((file) => `  ${file}`),
    '',
    'Next:',
    '  1. Look over the settings, above all what the server may read.',
    '  2. Start the service: systemctl enable --now backup-host',
    `  3. On the server, see whether it works: backup-server check ${name}`,
    ...problems.map((problem) => `Problem: ${describeProblem(problem)}`),
  ]
  stdout.write(`${lines.map(printable).join('\n')}\n`)
}

/** After an end without success, where this enrolment or an earlier one may have got far enough for the server. */
function describeRemains(hasWritten: boolean, settingsFile: string): string {
  const keyFile = pendingKeyFile(settingsFile)
  if (!hasWritten)
    return `An earlier enrolment was not finished, and the next one goes on with its key: ${keyFile}`
  return (
    `The settings in ${settingsFile} are written, but the server has not said that it is done. Run this again, which keeps the ` +
    `key (${keyFile}); or see on the server whether it has the host already: backup-server check.`
  )
}

function limited(note: (text: string) => void): (text: string) => void {
  let told = 0
  return (text) => {
    told++
    if (told <= refusalsToldMax) note(text)
    if (told === refusalsToldMax) note('What comes to nothing from now on is not told any more.')
  }
}

function stopped(signal: 'SIGINT' | 'SIGTERM'): StoppedBySignalError {
  const why = signal === 'SIGINT' ? 'Ctrl-C' : signal
  return new StoppedBySignalError(signal, `This host was not enrolled: stopped by ${why}`, {
    hint: 'The code is void. Run this again for a new one.',
  })
}
