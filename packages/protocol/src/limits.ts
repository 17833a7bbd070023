/**
 * Everything that a peer controls has its maximum here: sizes, counts, depths and waits. The unit is the last word but
 * `Max` of every name: bytes, characters (UTF-16 code units), plain counts, or milliseconds.
 */

const KiB = 1024
const MiB = 1024 * KiB
const secondMs = 1000
const minuteMs = 60 * secondMs

/** A message's header: one byte of type, four of payload length, big-endian. */
export const headerBytes = 5

/** The most content that one zstd frame may hold before compression. */
export const frameContentBytesMax = 4 * MiB

/** Zstandard's worst case for content of `frameContentBytesMax`: `ZSTD_compressBound`, content plus one part in 256. */
const frameCompressedBytesMax = frameContentBytesMax + frameContentBytesMax / 256

/** Payload of `entries` and `frame`: one compressed frame, and room for a skippable frame's header around it. */
export const dataPayloadBytesMax = frameCompressedBytesMax + 64 * KiB

/** Payload of every other message. */
export const controlPayloadBytesMax = 1 * MiB

/** Payload of what may come from a peer that has not yet proven its password: `hello`, `authenticate`, `error`. */
export const unauthenticatedPayloadBytesMax = 64 * KiB

/** Nesting of maps and arrays in a control payload; no message of version 1 needs more than 4. */
export const payloadDepthMax = 8

/** Values in one control payload: each map, array, key and scalar counts. Bounds the memory it decodes to. */
export const payloadElementsMax = 16_384

/** Paths of a request, and entries of a policy list. */
export const pathsMax = 4096

/** Exclude patterns of a request, those of its paths included. */
export const excludesMax = 4096

/** Paths of a request that have options of their own. */
export const ruledPathsMax = 256

/** Names of markers that keep a folder out, of a request or of a path of it. */
export const markersMax = 16

/** The name of a marker: what Linux has as the name of a file. */
export const markerBytesMax = 255

/** Hooks that a host's settings may have, and so names of hooks in a request. */
export const hooksMax = 32

/** The name of a hook. */
export const hookNameCharsMax = 63

/** All hooks before a run together, and all after it: the time in which an agent gets no further and is waited for. */
export const hooksMsMax = 60 * minuteMs

/** The least that a request may slow a run down to: a frame must get through long before a peer would give up. */
export const bytesPerSecondMin = 64 * KiB

/** One path, with its leading `/`, or pattern. The archive has the same limit for the paths of its entries, without it. */
export const pathBytesMax = 16 * KiB + 1

/** Passes over the entries that an agent may ask for in one restore; it needs six. */
export const restorePassesMax = 64

/** Entries of one pass. They are not kept: this ends a pass that would never end. */
export const restoreEntriesMax = 1_000_000_000

/** Paths whose content, or whose first names, are asked for in one message. */
export const restorePathsMax = 1024

/** Requests for entries and content that an agent may have under way at a time. */
export const restoreRequestsMax = 8

/** Steps of a dry run in one message. */
export const planStepsMax = 1000

/** Kinds of things that a restore could not set, and paths that are named for each. */
export const notSetKindsMax = 32
export const notSetExamplesMax = 5

/** Paths and messages of the `warning` messages of a restore that are told one by one; the rest is only counted. */
export const restoreWarningsBytesMax = 16 * MiB

/** Owners with other numbers that a restore tells of. */
export const mappedOwnersMax = 1000

/** Name of a user or a group: LOGIN_NAME_MAX of Linux. */
export const ownerNameBytesMax = 256

/** `warning` messages of one session. What comes after is only counted, in one last warning. */
export const warningsMax = 10_000

/** Paths and messages of the `warning` messages of a run that are passed on; of the rest only that there is more. */
export const runWarningsBytesMax = 16 * MiB

/** What of a path in such a warning is passed on. */
export const warningPathBytesMax = 4 * KiB

/** Objects of one `left-out`. */
export const leftOutBatchMax = 1000

/** Objects of all `left-out` of one session. What comes after is only counted, in a warning. */
export const leftOutMax = 100_000

/** Text for people (messages, hints): what is longer is cut, never refused. */
export const textCharsMax = 1000

/** A code of an error or a warning. */
export const codeCharsMax = 64

/** The `software` of a `hello`. */
export const softwareCharsMax = 100

/** The name of a host or a server. */
export const nameCharsMax = 63

/** The file name of an archive. */
export const archiveNameCharsMax = 128

export const passwordCharsMax = 1024

/** A certificate, DER. */
export const certificateBytesMax = 8 * KiB

/** Authorities that one side trusts at a time. More than one only while the authority is changed. */
export const authoritiesMax = 4

/** A password that a server makes up for a host has at least so many characters. */
export const grantedPasswordCharsMin = 16

/** Connections that a host that waits to be enrolled holds at a time, and those of them from one address. */
export const enrolmentConnectionsMax = 16
export const enrolmentConnectionsPerAddressMax = 4

/**
 * Wrong proofs after which an address is not listened to any more, and those of all addresses after which the code is
 * void. A code has 128 bits: a hundred tries are as good as none, and one stranger cannot void it.
 */
export const enrolmentFailuresPerAddressMax = 3
export const enrolmentFailuresMax = 100

/** One revocation list, DER: some 3,000 certificates. */
export const revocationListBytesMax = 128 * KiB

/** Messages about certificates and trust that an agent takes in one session. */
export const trustMessagesMax = 16

/** Zstandard levels that a request may ask for. The agent's settings may allow less. */
export const compressionLevelMin = 1
export const compressionLevelMax = 19

/** Messages that a channel reads ahead of its owner; with these in hand it stops reading. */
export const undeliveredMessagesMax = 2

/** How much of a message is handed to the connection at once: what must be taken within `stallMsMax`. */
export const writeSliceBytes = 256 * KiB

/** Connections that a listener holds at a time, most of them, in an attack, not yet authenticated. */
export const connectionsMax = 64

/** From dialing to a connection whose TLS handshake is done. */
export const connectMsMax = 20 * secondMs

/** From an accepted connection to the end of the TLS handshake. */
export const handshakeMsMax = 10 * secondMs

/** From an accepted connection to `welcome`, not counting the delays that the agent itself adds to failed attempts. */
export const authenticationMsMax = 20 * secondMs

/** Silence, without a single byte, of a peer that has something to say. */
export const idleMsMax = 1 * minuteMs

/** One message, from its first byte to its last, sending or receiving. */
export const messageMsMax = 15 * minuteMs

/** No progress: counters that do not advance, or a peer that takes none of what is sent. */
export const stallMsMax = 5 * minuteMs

/** From `authenticate` to `welcome`: the check itself, and the delays that an agent adds after failed attempts. */
export const welcomeMsMax = 2 * minuteMs

/** From a message about certificates and trust to its answer: a key is made, a file is written. */
export const trustMsMax = 1 * minuteMs

/** From `welcome`, or an answer about certificates, to what the server says next: it knows by then what it wants. */
export const requestMsMax = 1 * minuteMs

/** Sessions that have passed the password and not made their request; with one more, the oldest ends. */
export const waitingSessionsMax = 16

/**
 * From `baseline-next` to its answer, in silence: the time for all that was sent before it, some tens of MB on their
 * way, to go over a slow line and be written.
 */
export const baselineMsMax = 15 * minuteMs

/**
 * From a request of a restoring agent to its answer, each message of it: the server sorts its catalog or reads its
 * archives, and then the answer goes over a slow line.
 */
export const restoreAnswerMsMax = 15 * minuteMs

/** The end of a restore, when the host's kernel writes to disk what was restored, and nothing else gets on. */
export const restoreSyncMsMax = 30 * minuteMs

/** From `summary` to `stored`, in silence: the time for fsync, index and catalog. */
export const storedMsMax = 10 * minuteMs

/** From `stored` to `finished`: the time to put the local copy in its place. Hooks come on top: `hooksMsMax`. */
export const finishedMsMax = 5 * minuteMs

/** How long the code of an enrolment is good. */
export const enrolmentMsMax = 10 * minuteMs

/** Enrolment: from a finished handshake to the proof of the other side. */
export const enrolmentProofMsMax = 20 * secondMs

/** Enrolment: from each message after that to its answer: the time to sign, to hash a password, and to write some files. */
export const enrolmentStepMsMax = 1 * minuteMs

/** Enrolment: how far the clocks of both machines may be apart. */
export const enrolmentClockMsMax = 60 * minuteMs

/** From the last word of this side to a connection that is closed, be it by force. */
export const closeMsMax = 5 * secondMs

/** An agent at work says so at least this often. */
export const progressIntervalMs = 5 * secondMs

/** TCP keepalive starts after this much silence. */
export const keepAliveMs = 30 * secondMs
