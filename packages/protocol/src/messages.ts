/**
 * The messages, as data: their numbers, the largest payload of each, and the shape of those that are msgpack maps.
 * One rule for strings: what is text for people or a word of the protocol travels as `str` and is UTF-8; what is bytes
 * (paths, patterns, digests) travels as `bin` and is a Buffer here.
 */

import * as z from 'zod'
import { possessionBytes, publicKeyBytes } from './certificate-request.ts'
import { enrolmentProofBytes } from './enrolment-proof.ts'
import { plainText } from './errors.ts'
import { namePattern, roles } from './identity.ts'
import {
  archiveNameCharsMax,
  authoritiesMax,
  bytesPerSecondMin,
  certificateBytesMax,
  codeCharsMax,
  compressionLevelMax,
  compressionLevelMin,
  controlPayloadBytesMax,
  dataPayloadBytesMax,
  excludesMax,
  grantedPasswordCharsMin,
  hookNameCharsMax,
  hooksMax,
  leftOutBatchMax,
  mappedOwnersMax,
  markerBytesMax,
  markersMax,
  notSetExamplesMax,
  notSetKindsMax,
  ownerNameBytesMax,
  passwordCharsMax,
  pathBytesMax,
  pathsMax,
  planStepsMax,
  restorePathsMax,
  revocationListBytesMax,
  ruledPathsMax,
  softwareCharsMax,
  unauthenticatedPayloadBytesMax,
} from './limits.ts'

/** The version of the protocol that this package speaks. */
export const protocolVersion = 1

export const kinds = ['full', 'incremental'] as const
export type Kind = (typeof kinds)[number]

/** How a run ended, best first. */
export const outcomes = ['complete', 'complete-with-changes', 'incomplete', 'failed'] as const
export type Outcome = (typeof outcomes)[number]

/**
 * What an agent is doing: running hooks, expanding patterns, walking and packing, putting the end to the archive; after
 * `stored`, `finish` is putting the local copy in its place, and running hooks.
 */
export const phases = ['prepare', 'select', 'pack', 'finish'] as const
export type Phase = (typeof phases)[number]

/**
 * What an agent is doing in a restore: telling what it would do; making folders, files, links; setting attributes of
 * folders; waiting until all is on disk.
 */
export const restorePhases = ['plan', 'folders', 'files', 'links', 'attributes', 'sync'] as const
export type RestorePhase = (typeof restorePhases)[number]

/** What becomes of something else that stands where an entry belongs. */
export const overwrites = ['never', 'older', 'always'] as const

/** Orders of entries; `content` is the one in which their content lies in archives. */
export const entryOrders = ['path', 'path-descending', 'content'] as const

export const entryTypes = [
  'file',
  'directory',
  'symlink',
  'hardlink',
  'fifo',
  'socket',
  'character-device',
  'block-device',
] as const

/** What a dry run would do for an entry. */
export const restoreActions = ['create', 'replace', 'update', 'keep', 'equal'] as const

/** When a hook runs: before the run, after one whose archive was stored, after any. */
export const hookMoments = ['before', 'after', 'after-always'] as const
export type HookMoment = (typeof hookMoments)[number]

/** The name of a hook, as it stands in the settings of a host. */
export const hookNamePattern = new RegExp(`^[A-Za-z0-9][A-Za-z0-9_-]{0,${hookNameCharsMax - 1}}$`)

const name = z.string().regex(namePattern)
const code = z.string().regex(new RegExp(`^[a-z][a-z0-9-]{0,${codeCharsMax - 1}}$`))
const archiveName = z.string().regex(new RegExp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,${archiveNameCharsMax - 1}}$`))
/** Text for a person. It is cut and cleaned rather than refused, as it may be the reason of a failure. */
const text = z.string().transform(plainText)
const count = z.int().nonnegative()
const timeMs = z.int()
const software = z
  .string()
  .max(softwareCharsMax)
  .regex(/^[\x20-\x7e]+$/)
const bytes = (max: number, min = 1) =>
  z.custom<Buffer>((value) => Buffer.isBuffer(value) && value.length >= min && value.length <= max, {
    error: `expected ${min} to ${max} bytes`,
  })
const path = bytes(pathBytesMax)
const digest = bytes(32, 32)
const certificate = bytes(certificateBytesMax)
const paths = z.array(path).max(pathsMax)
const restorePaths = z.array(path).min(1).max(restorePathsMax)
const marker = bytes(markerBytesMax).refine(isFileName, 'expected the name of a file')
const hookName = z.string().regex(hookNamePattern)
const hookNames = z.array(hookName).max(hooksMax)
const exclude = z.array(path).max(excludesMax)
const rules = {
  oneFileSystem: z.boolean().optional(),
  excludeCaches: z.boolean().optional(),
  excludeIfPresent: z.array(marker).max(markersMax).optional(),
  excludeNodump: z.boolean().optional(),
  maxFileBytes: count.optional(),
}
const ruledPath = z.strictObject({ path, exclude: exclude.optional(), ...rules })
const selection = {
  host: name,
  paths: z
    .array(z.union([path, ruledPath]))
    .min(1)
    .max(pathsMax),
  exclude,
  ...rules,
}

/** What of a tree is not packed, of a request for all of its paths or for one of them. */
export type SelectionRules = z.infer<z.ZodObject<typeof rules>>

/** A path of a request: as it is, or with options that take the place of those of the request. */
export type SelectionPath = Buffer | z.infer<typeof ruledPath>

function isFileName(buffer: Buffer): boolean {
  const text = buffer.toString('latin1')
  return !/[/\0]/.test(text) && text !== '.' && text !== '..'
}

/** What each path may have, they may not have together. */
function isSelectionWithinLimits(request: { paths: SelectionPath[]; exclude: Buffer[] }): boolean {
  const ruled = request.paths.flatMap((one) => (Buffer.isBuffer(one) ? [] : [one]))
  const patterns = ruled.reduce((sum, one) => sum + (one.exclude?.length ?? 0), request.exclude.length)
  return ruled.length <= ruledPathsMax && patterns <= excludesMax
}

const tooManyRules = {
  error: `more than ${ruledPathsMax} paths with options, or ${excludesMax} patterns`,
  path: ['paths'],
}

const countsSchema = z.strictObject({
  files: count,
  directories: count,
  symlinks: count,
  hardlinks: count,
  specials: count,
  sockets: count,
  unchanged: count,
  gone: count,
  excluded: count,
  changed: count,
  vanished: count,
  unreadable: count,
  attributes: count,
  contentBytes: count,
})

const restoreReportSchema = z.strictObject({
  restored: z.strictObject({
    files: count,
    directories: count,
    symlinks: count,
    hardlinks: count,
    specials: count,
  }),
  contentBytes: count,
  equal: count,
  damaged: count,
  failed: count,
  kept: count,
  notSet: z
    .array(
      z.strictObject({ kind: code, count, reason: text, examples: z.array(path).max(notSetExamplesMax) }),
    )
    .max(notSetKindsMax),
  mapped: z
    .array(
      z.strictObject({
        kind: z.enum(['user', 'group']),
        name: bytes(ownerNameBytesMax),
        from: count,
        to: count,
        count,
      }),
    )
    .max(mappedOwnersMax),
})

const planStep = z.strictObject({
  path,
  type: z.enum(entryTypes),
  action: z.enum(restoreActions),
  bytes: count,
})

/** What a run met, by kind; `contentBytes` is the content of its regular files. */
export type Counts = z.infer<typeof countsSchema>

// Typed by hand: as zod has it, an object without fields may not have a `type` either.
const noFields = z.strictObject({}) as unknown as z.ZodType<object>

const schemas = {
  hello: z.strictObject({
    protocol: z.literal(protocolVersion),
    software,
    role: z.enum(roles),
    name,
  }),
  authenticate: z.strictObject({ password: z.string().max(passwordCharsMax) }),
  welcome: z.strictObject({
    name,
    policy: z.strictObject({
      read: paths,
      restore: paths,
      hooks: z
        .array(z.strictObject({ name: hookName, when: z.enum(hookMoments), always: z.boolean() }))
        .max(hooksMax)
        .optional(),
    }),
    localCopy: z.boolean(),
  }),
  error: z.strictObject({ code, message: text, hint: text.optional(), clockMs: timeMs.optional() }),
  backup: z
    .strictObject({
      ...selection,
      kind: z.enum(kinds),
      base: archiveName.nullable(),
      startedAtMs: timeMs,
      compressionLevel: z.int().min(compressionLevelMin).max(compressionLevelMax).optional(),
      bytesPerSecond: count.min(bytesPerSecondMin).optional(),
      hooks: z.strictObject({ before: hookNames, after: hookNames }).optional(),
    })
    .refine(({ kind, base }) => (base === null) === (kind === 'full'), { path: ['base'] })
    .refine(isSelectionWithinLimits, tooManyRules),
  'left-out': z.strictObject({
    objects: z
      .array(z.strictObject({ path, reason: code, message: text }))
      .min(1)
      .max(leftOutBatchMax),
  }),
  'archive-name': z.strictObject({ name: archiveName }),
  warning: z.strictObject({
    code,
    path: path.nullable(),
    message: text,
    count: z.int().positive().optional(),
  }),
  progress: z.strictObject({
    phase: z.enum([...phases, ...restorePhases]),
    entries: count,
    contentBytes: count,
    path: path.nullable(),
  }),
  summary: z.strictObject({
    outcome: z.enum(outcomes),
    counts: countsSchema,
    digest: digest.nullable(),
    archiveBytes: count,
    tarBytes: count,
    finishedAtMs: timeMs,
  }),
  stored: z.strictObject({ digest, archiveBytes: count }),
  check: z.strictObject(selection).refine(isSelectionWithinLimits, tooManyRules),
  'baseline-next': noFields,
  'baseline-end': noFields,
  finished: z.strictObject({
    localCopy: z.strictObject({ kept: z.boolean(), name: archiveName, error: text.optional() }).nullable(),
  }),
  restore: z.strictObject({
    host: name,
    source: name,
    startedAtMs: timeMs,
    target: path,
    overwrite: z.enum(overwrites),
    numericIds: z.boolean(),
    dryRun: z.boolean(),
  }),
  'restore-entries': z.strictObject({
    order: z.enum(entryOrders),
    types: z.array(z.enum(entryTypes)).min(1).max(entryTypes.length).nullable(),
  }),
  'restore-next': noFields,
  'restore-firsts': z.strictObject({ paths: restorePaths }),
  'restore-content': z.strictObject({ paths: restorePaths }),
  'entries-end': noFields,
  'content-missing': z.strictObject({ message: text }),
  'restore-plan': z.strictObject({ steps: z.array(planStep).min(1).max(planStepsMax) }),
  'restore-end': z.strictObject({ report: restoreReportSchema.nullable() }),
  'enrolment-proof': z.strictObject({ software, proof: bytes(enrolmentProofBytes, enrolmentProofBytes) }),
  'enrolment-request': z.strictObject({
    publicKey: bytes(publicKeyBytes, publicKeyBytes),
    possession: bytes(possessionBytes, possessionBytes),
    atMs: timeMs,
  }),
  'enrolment-grant': z.strictObject({
    name,
    certificate,
    authorities: z.array(certificate).min(1).max(authoritiesMax),
    password: z.string().min(grantedPasswordCharsMin).max(passwordCharsMax),
  }),
  'enrolment-ready': noFields,
  'enrolment-done': noFields,
  'enrolment-end': noFields,
  trust: noFields,
  trusted: z.strictObject({
    authorities: z.array(digest).min(1).max(authoritiesMax),
    lists: z.array(z.strictObject({ authority: digest, number: count })).max(authoritiesMax),
    certificate: digest,
    fault: text.optional(),
  }),
  'trust-update': z.strictObject({
    authorities: z.array(z.strictObject({ certificate, endorsement: certificate })).max(authoritiesMax),
    lists: z.array(bytes(revocationListBytesMax)).max(authoritiesMax),
  }),
  renew: noFields,
  'signing-request': z.strictObject({
    publicKey: bytes(publicKeyBytes, publicKeyBytes),
    possession: bytes(possessionBytes, possessionBytes),
  }),
  certificate: z.strictObject({ certificate }),
}

/** What came of a restore. `damaged`, `failed` and `kept` are numbers; each was a `warning` before. */
export type RestoreCounts = z.infer<typeof restoreReportSchema>

export type ControlType = keyof typeof schemas
export type DataType = 'entries' | 'frame' | 'baseline'
export type MessageType = ControlType | DataType

/** A message of type `T`: its fields beside `type`, or for data the raw `payload`. */
export type MessageOf<T extends MessageType> = {
  [K in T]: K extends ControlType ? { type: K } & z.infer<(typeof schemas)[K]> : { type: K; payload: Buffer }
}[T]

export type Message = MessageOf<MessageType>

interface MessageKind {
  type: MessageType
  /** The first byte on the wire. */
  number: number
  payloadBytesMax: number
  /** `null` for raw bytes. */
  schema: z.ZodType<object> | null
}

function control(number: number, type: ControlType, payloadBytesMax = controlPayloadBytesMax): MessageKind {
  return { number, type, payloadBytesMax, schema: schemas[type] }
}

function data(number: number, type: DataType): MessageKind {
  return { number, type, payloadBytesMax: dataPayloadBytesMax, schema: null }
}

/** All messages of version 1. A number is never used for anything else. */
export const messageKinds: readonly MessageKind[] = [
  control(1, 'hello', unauthenticatedPayloadBytesMax),
  control(2, 'authenticate', unauthenticatedPayloadBytesMax),
  control(3, 'welcome'),
  control(4, 'error', unauthenticatedPayloadBytesMax),
  control(5, 'backup'),
  control(6, 'archive-name'),
  data(7, 'entries'),
  data(8, 'frame'),
  control(9, 'warning'),
  control(10, 'progress'),
  control(11, 'summary'),
  control(12, 'stored'),
  control(13, 'check'),
  control(14, 'finished'),
  data(15, 'baseline'),
  control(16, 'baseline-end'),
  control(17, 'baseline-next'),
  control(18, 'restore'),
  control(19, 'restore-entries'),
  control(20, 'restore-next'),
  control(21, 'restore-firsts'),
  control(22, 'restore-content'),
  control(23, 'entries-end'),
  control(24, 'content-missing'),
  control(25, 'restore-plan'),
  control(26, 'restore-end'),
  control(27, 'left-out'),
  control(28, 'enrolment-proof', unauthenticatedPayloadBytesMax),
  control(29, 'enrolment-request', unauthenticatedPayloadBytesMax),
  control(30, 'enrolment-grant', unauthenticatedPayloadBytesMax),
  control(31, 'enrolment-ready', unauthenticatedPayloadBytesMax),
  control(32, 'enrolment-done', unauthenticatedPayloadBytesMax),
  control(33, 'enrolment-end', unauthenticatedPayloadBytesMax),
  control(34, 'trust'),
  control(35, 'trusted'),
  control(36, 'trust-update'),
  control(37, 'renew'),
  control(38, 'signing-request'),
  control(39, 'certificate'),
]

const byType = new Map(messageKinds.map((kind) => [kind.type, kind]))
const byNumber = new Map(messageKinds.map((kind) => [kind.number, kind]))

export function messageKindOf(type: MessageType): MessageKind {
  return byType.get(type)!
}

/** `undefined` for a number that no message has. */
export function messageKindOfNumber(number: number): MessageKind | undefined {
  return byNumber.get(number)
}
