/**
 * Takes a lease on the file `process.argv[2]`, as a file server does for its clients, and prints `ready`. When somebody wants to
 * open the file, the kernel sends a signal (fcntl(2), F_SETLEASE), which ends this process and with it the lease.
 */
import { openSync } from 'node:fs'
import koffi from 'koffi'

const F_SETLEASE = 1024
const F_WRLCK = 1
const fcntl = koffi.load(null).func('int fcntl(int, int, int)')

if (fcntl(openSync(process.argv[2]!, 'r+'), F_SETLEASE, F_WRLCK) < 0)
  throw new Error(`errno ${koffi.errno()}`)
process.stdout.write('ready\n')
setInterval(() => {}, 60_000)
