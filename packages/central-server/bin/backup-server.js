#!/usr/bin/env node
// Old versions of Node have to be able to parse this file, so that they can say what is wrong.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { useCompileCache } from './compile-cache.js'

const major = Number(process.versions.node.split('.')[0])

if (major < 24) {
  console.error(`backup-server needs Node.js 24 or newer; this is ${process.version} (${process.execPath}).`)
  process.exitCode = 2
} else {
  const source = new URL('../src/main.ts', import.meta.url)
  const built = new URL('../dist/main.js', import.meta.url)
  const isSource = existsSync(fileURLToPath(source))
  if (!isSource) useCompileCache(process.env, process.geteuid())
  import((isSource ? source : built).href)
}
