import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** Who a process is, beyond the life of its number: numbers are used again, also after a restart of the machine. */
export interface ProcessIdentity {
  /** The machine, or the container's idea of it. */
  machine: string
  /** Changes when the machine starts anew. */
  bootId: string
  /** Numbers of processes mean something only within it. */
  pidNamespace: string
  pid: number
  /** When the process started, in clock ticks since the machine did. */
  processStart: string
}

/** The identity of this process. */
export function identifyProcess(pid: number = process.pid): ProcessIdentity {
  return {
    machine: readFirst(['/etc/machine-id', '/var/lib/dbus/machine-id']) ?? hostname(),
    bootId: readFirst(['/proc/sys/kernel/random/boot_id']) ?? '',
    pidNamespace: readPidNamespace(),
    pid,
    processStart: readProcessStart(pid) ?? '',
  }
}

/**
 * Whether `other` is known to be dead, seen from the process `self`. `false` where it lives, and also where that cannot be
 * known from here: on another machine, or in another container.
 */
export function isKnownDead(
  other: ProcessIdentity,
  self: ProcessIdentity,
  processStartOf: (pid: number) => string | null = readProcessStart,
): boolean {
  if (other.machine !== self.machine) return false
  if (other.bootId !== self.bootId) return true
  if (other.pidNamespace !== self.pidNamespace) return false
  return processStartOf(other.pid) !== other.processStart
}

/** Field 22 of /proc/PID/stat; `null` where there is no such process. Its second field may contain anything. */
function readProcessStart(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [state] = fields
    return state === 'Z' || state === 'X' ? null : (fields[19] ?? null)
  } catch {
    return null
  }
}

function readPidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return ''
  }
}

function readFirst(files: readonly string[]): string | null {
  for (const file of files) {
    try {
      const text = readFileSync(file, 'utf8').trim()
      if (text !== '') return text
    } catch {
      // The next one may be there.
    }
  }
  return null
}
