/** What a process uses, as Linux counts it. */
import { readdirSync, readFileSync } from 'node:fs'
import type { Program } from './program.ts'

/** Memory that the process has in RAM now, in bytes. */
export function residentBytes(pid: number): number {
  return statusBytes(pid, 'VmRSS')
}

export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** The most memory that a program had in RAM, in bytes, once it has ended. */
export async function peakMemoryOf(program: Program): Promise<number> {
  let peak = 0
  const look = () => {
    try {
      peak = Math.max(peak, statusBytes(program.pid, 'VmHWM'))
    } catch {
      // It is gone already.
    }
  }
  const timer = setInterval(look, 20)
  await program.ended
  clearInterval(timer)
  return peak
}

function statusBytes(pid: number, field: string): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]
  if (kilobytes === undefined) throw new Error(`process ${pid} has no ${field} any more`)
  return Number(kilobytes) * 1024
}
