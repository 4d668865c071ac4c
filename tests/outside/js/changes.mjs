// postgres_changes as suites B, C and E check it, with both protocol versions.

import assert from 'node:assert/strict'
import { postgresChangesFilter } from '@supabase/supabase-js'
import { connect, ok, service, signedUp, subscribed, unique, until } from './client.mjs'

const table = { schema: 'public', table: 'pg_changes' }

export async function inserts_updates_and_deletes(project) {
  const { client } = await signedUp(project)
  const value = unique('value')
  const got = { INSERT: [], UPDATE: [], DELETE: [], '*': [] }
  const channel = client.channel(unique())
  for (const event of Object.keys(got)) {
    const filter = event === 'DELETE' ? undefined : `value=in.(${value},${value}-2)`
    channel.on('postgres_changes', { event, ...table, filter }, (payload) => got[event].push(payload))
  }
  await subscribed(channel, { ready: true })
  const { id } = ok(await client.from('pg_changes').insert({ value, amount: 3 }).select().single())
  ok(await client.from('pg_changes').update({ value: `${value}-2` }).eq('id', id))
  ok(await client.from('pg_changes').delete().eq('id', id))
  await until(() => got.DELETE.some((payload) => payload.old.id === id), 'the deletion')
  const [inserted] = got.INSERT
  assert.deepEqual(inserted.new, { id, value, amount: 3, flag: null })
  assert.deepEqual([inserted.eventType, inserted.schema, inserted.table], ['INSERT', 'public', 'pg_changes'])
  assert.ok(!Number.isNaN(Date.parse(inserted.commit_timestamp)))
  assert.deepEqual(inserted.errors, null)
  assert.equal(got.UPDATE[0].new.value, `${value}-2`)
  assert.deepEqual(got.UPDATE[0].old, { id })
  assert.deepEqual(
    got['*'].slice(0, 2).map((payload) => payload.eventType),
    ['INSERT', 'UPDATE'],
  )
}

export async function every_filter_selects_what_it_should(project) {
  const { client } = await signedUp(project)
  const mark = unique('f')
  const rows = [
    { value: `${mark}-a`, amount: 1, flag: true },
    { value: `${mark}-b`, amount: 2, flag: false },
    { value: `${mark}-c`, amount: 3, flag: null },
  ]
  const wanted = {
    [`value=eq.${mark}-a`]: 'a',
    [`value=like.${mark}%,amount=neq.1`]: 'bc',
    [`value=like.${mark}%,amount=lt.2`]: 'a',
    [`value=like.${mark}%,amount=lte.2`]: 'ab',
    [`value=like.${mark}%,amount=gt.2`]: 'c',
    [`value=like.${mark}%,amount=gte.2`]: 'bc',
    [`value=in.(${mark}-a,${mark}-c)`]: 'ac',
    [`value=ilike.${mark.toUpperCase()}%`]: 'abc',
    [`value=match.^${mark}-[ab]`]: 'ab',
    [`value=imatch.^${mark.toUpperCase()}-[BC]`]: 'bc',
    [`value=like.${mark}%,flag=is.null`]: 'c',
    [`value=like.${mark}%,flag=is.true`]: 'a',
    [`value=like.${mark}%,flag=eq.false`]: 'b',
    [`value=like.${mark}%,flag=isdistinct.true`]: 'bc',
    [`value=like.${mark}%,amount=not.eq.2`]: 'ac',
  }
  const got = Object.fromEntries(Object.keys(wanted).map((filter) => [filter, '']))
  const channel = client.channel(unique())
  for (const filter of Object.keys(wanted)) {
    channel.on('postgres_changes', { event: 'INSERT', ...table, filter }, ({ new: row }) => {
      got[filter] += row.value.at(-1)
    })
  }
  const built = []
  const filter = postgresChangesFilter().eq('value', `${mark}-b`).gte('amount', 2)
  channel.on('postgres_changes', { event: 'INSERT', ...table, filter }, ({ new: row }) => built.push(row.amount))
  const last = []
  const end = { event: 'INSERT', ...table, filter: `value=eq.${mark}-end` }
  channel.on('postgres_changes', end, (payload) => last.push(payload))
  await subscribed(channel, { ready: true })
  for (const row of rows) ok(await client.from('pg_changes').insert(row))
  ok(await client.from('pg_changes').insert({ value: `${mark}-end`, amount: 2, flag: true }))
  await until(() => last.length, 'the last row')
  for (const letters of Object.keys(got)) got[letters] = got[letters].replace("d", "")
  assert.deepEqual(got, wanted)
  assert.deepEqual(built, [2])
}

export async function select_leaves_columns_out(project) {
  const { client } = await signedUp(project)
  const value = unique('select')
  const got = { some: [], all: [] }
  const channel = client.channel(unique())
  const binding = { event: 'INSERT', ...table, filter: `value=eq.${value}` }
  channel.on('postgres_changes', { ...binding, select: ['id', 'amount'] }, ({ new: row }) => got.some.push(row))
  channel.on('postgres_changes', binding, ({ new: row }) => got.all.push(row))
  await subscribed(channel, { ready: true })
  const { id } = ok(await client.from('pg_changes').insert({ value, amount: 3 }).select().single())
  await until(() => got.some.length && got.all.length, 'both')
  assert.deepEqual(got, { some: [{ id, amount: 3 }], all: [{ id, value, amount: 3, flag: null }] })
}

export async function row_level_security_decides(project) {
  const ada = await signedUp(project)
  const bob = await signedUp(project)
  const got = { ada: [], bob: [], anon: [], end: [] }
  const listen = async (client, into) => {
    const channel = client.channel(unique())
    channel.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'wallet' }, ({ new: row }) => into.push(row))
    channel.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'dummy' }, ({ new: row }) => got.end.push(row))
    await subscribed(channel, { ready: true })
  }
  await listen(ada.client, got.ada)
  await listen(bob.client, got.bob)
  await listen(connect(project), got.anon)
  const admin = service(project)
  ok(await admin.from('wallet').insert([{ owner: ada.user.id, balance: 12.5 }, { owner: bob.user.id, balance: 1 }]))
  const value = unique('end')
  ok(await admin.from('dummy').insert({ value }))
  await until(() => got.end.filter((row) => row.value === value).length === 3, 'the mark at all three')
  assert.deepEqual(got.ada.map((row) => row.balance), [12.5])
  assert.deepEqual(got.bob.map((row) => row.balance), [1])
  assert.deepEqual(got.anon, [])
}

export async function several_tables_on_one_channel(project) {
  const admin = service(project)
  const got = []
  const title = unique('title')
  const channel = admin.channel(unique())
  channel.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'todos', filter: `description=eq.${title}` },
    (payload) => got.push(payload.table))
  channel.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'messages', filter: `title=eq.${title}` },
    (payload) => got.push(payload.table))
  await subscribed(channel, { ready: true })
  ok(await admin.from('todos').insert({ description: title }))
  ok(await admin.from('messages').insert({ title, message: 'longer than ten' }))
  await until(() => got.length === 2, 'both rows')
  assert.deepEqual(got, ['todos', 'messages'])
}

export async function a_new_token_shows_more(project) {
  const { client, session, email } = await signedUp(project)
  const user = connect(project)
  const got = []
  const told = []
  const channel = user.channel(unique())
  channel.on('system', {}, (message) => told.push(message.message))
  channel.on('postgres_changes', { event: 'INSERT', schema: 'public', table: 'wallet' }, ({ new: row }) => got.push(row))
  await subscribed(channel, { ready: true })
  const before = told.length
  ok(await user.auth.setSession(session))
  await until(() => told.length > before, 'the subscription with the new token')
  assert.equal(ok(await client.auth.getUser()).user.email, email)
  ok(await service(project).from('wallet').insert({ owner: session.user.id, balance: 7 }))
  await until(() => got.length, 'the row')
  assert.equal(got[0].balance, 7)
}

export async function nothing_is_lost_behind_the_reply(project) {
  const admin = service(project)
  const value = unique('at-once')
  const got = []
  const channel = admin.channel(unique())
  channel.on('postgres_changes', { event: 'INSERT', ...table, filter: `value=eq.${value}` }, ({ new: row }) => got.push(row.amount))
  await subscribed(channel)
  for (let amount = 0; amount < 20; amount += 1) ok(await admin.from('pg_changes').insert({ value, amount }))
  await until(() => got.length === 20, 'all twenty rows')
  assert.deepEqual(got, [...Array(20).keys()])
}
