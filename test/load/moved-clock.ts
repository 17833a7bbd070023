/** Loaded before a program (`node --import`), it moves the wall clock by MOVED_CLOCK_MS; the monotonic one stays as it is. */
const movedMs = Number(process.env.MOVED_CLOCK_MS)
const now = Date.now

globalThis.Date = new Proxy(Date, {
  construct: (target, args, created) =>
    Reflect.construct(target, args.length === 0 ? [now() + movedMs] : args, created),
  get: (target, key) => (key === 'now' ? () => now() + movedMs : Reflect.get(target, key)),
})
