import type { Command } from 'commander'
import type { Invocation } from './invocation.ts'

/** A command of `backup-server`. It parses, calls one job, and prints. */
export interface CommandDefinition {
  /** As it is typed: `init`, or `host add` for one of a group. */
  words: string
  /** One line for the list of commands. */
  summary: string
  /** A whole command line that shows it at work. */
  example: string
  /** Whether it is what `backup-server` does when no command is named. */
  isDefault?: boolean
  /** Adds arguments, options and the action. */
  define(command: Command, invocation: Invocation): void
}

/** For options that can be given several times. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value]
}
