// What the scenarios share: clients that are closed at the end, and waiting for a condition with a deadline.

import assert from 'node:assert/strict'
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

const DEADLINE_MS = 10_000
export const PASSWORD = 'correct horse battery'

const opened = []
let numbers = 0

// Node 20 has no WebSocket of its own: `ws` stands in for the browser's.
export function connect(project, { key = project.publishable_key, token, ...auth } = {}) {
  const client = createClient(project.url, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false, ...auth },
    ...(token ? { accessToken: async () => token } : {}),
    realtime: { transport: ws, vsn: project.vsn ?? '2.0.0', heartbeatIntervalMs: 5000 },
  })
  opened.push(client)
  return client
}

export async function close() {
  for (const client of opened) {
    await client.removeAllChannels()
    await client.realtime.disconnect()
  }
}

export function service(project) {
  return connect(project, { key: project.secret_key })
}

// A name that no other test has, for topics, rows and addresses.
export function unique(prefix = 'topic') {
  numbers += 1
  return `${prefix}-${process.pid}-${Date.now().toString(36)}-${numbers}`
}

export async function signedUp(project, options = {}) {
  const client = connect(project)
  const email = `${unique('js')}@example.com`
  const { data, error } = await client.auth.signUp({ email, password: PASSWORD, options })
  assert.equal(error, null)
  assert.ok(data.session?.access_token)
  return { client, email, user: data.user, session: data.session }
}

export async function until(condition, what, milliseconds = DEADLINE_MS) {
  const deadline = Date.now() + milliseconds
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${what} did not happen within ${milliseconds} ms`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

// Subscribes, and with `ready` waits until the server says that changes flow.
export async function subscribed(channel, { ready = false } = {}) {
  const told = []
  let system = false
  channel.on('system', {}, (message) => {
    if (message.status !== 'ok') told.push(`system: ${message.message}`)
    else system = true
  })
  await new Promise((resolve, reject) => {
    channel.subscribe((status, error) => {
      if (status === 'SUBSCRIBED') resolve()
      else reject(new Error(`${status}: ${error?.message ?? ''} ${told.join('; ')}`))
    })
  })
  if (ready) await until(() => system || told.length, 'the system message')
  assert.deepEqual(told, [])
  return channel
}

export function ok({ data, error, ...rest }) {
  assert.equal(error, null, JSON.stringify(error))
  return rest.count == null ? data : { data, count: rest.count }
}
