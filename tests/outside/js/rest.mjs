// Suite E's PostgREST, trace propagation and custom tokens.

import assert from 'node:assert/strict'
import { connect, ok, service, signedUp, unique } from './client.mjs'

export async function reads_and_writes_as_nobody(project) {
  const client = connect(project)
  const task = unique('task')
  const made = ok(await client.from('tasks').insert({ task, user_id: null }).select().single())
  assert.equal(made.is_complete, false)
  ok(await client.from('tasks').update({ is_complete: true }).eq('id', made.id))
  const found = ok(await client.from('tasks').select('task, is_complete').eq('id', made.id))
  assert.deepEqual(found, [{ task, is_complete: true }])
  assert.equal(ok(await client.from('tasks').delete({ count: 'exact' }).eq('id', made.id)).count, 1)
  assert.equal(ok(await client.from('tasks').select().eq('id', made.id).maybeSingle()), null)
}

export async function sees_only_its_own_rows(project) {
  const ada = await signedUp(project)
  const bob = await signedUp(project)
  const task = unique('own')
  const made = ok(await ada.client.from('tasks').insert({ task }).select().single())
  assert.equal(made.user_id, ada.user.id)
  assert.deepEqual(ok(await bob.client.from('tasks').select().eq('task', task)), [])
  assert.deepEqual(ok(await bob.client.from('tasks').update({ task: 'x' }).eq('id', made.id).select()), [])
  const forged = await bob.client.from('tasks').insert({ task, user_id: ada.user.id })
  assert.equal(forged.error.code, '42501')
  ok(await ada.client.auth.signOut())
  assert.deepEqual(ok(await ada.client.from('tasks').select().eq('task', task)), [])
}

export async function takes_a_custom_token(project) {
  const client = connect(project, { token: project.user_token })
  const bare = connect(project)
  assert.equal(ok(await client.from('pg_changes').select('id').limit(0)).length, 0)
  const denied = await connect(project, { token: 'a.b.c' }).from('pg_changes').select()
  assert.equal(denied.status, 401)
  assert.equal(denied.error.code, 'PGRST301')
  assert.deepEqual(ok(await bare.from('pg_changes').select()), [])
}

export async function answers_in_csv(project) {
  const rows = ok(await service(project).from('cities').select('id, name').order('id').csv())
  assert.equal(rows, 'id,name\n1,Kabul\n2,Paris\n3,Lyon')
}

export async function passes_trace_headers_on(project) {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const told = ok(
    await connect(project).rpc('get_req_trace_headers').setHeader('traceparent', traceparent),
  )
  assert.equal(told.traceparent, traceparent)
}

export async function says_what_it_does_not_do(project) {
  const client = service(project)
  const embedded = await client.from('cities').select('name, countries(nicename)')
  assert.equal(embedded.error.code, 'PGRST127')
  const plan = await client.from('cities').select().explain()
  assert.equal(plan.error.code, 'PGRST107')
  const none = await client.from('nowhere').select()
  assert.deepEqual([none.status, none.error.code], [404, 'PGRST205'])
  const function_ = await client.rpc('nothing_like_it')
  assert.equal(function_.error.code, 'PGRST202')
}

export async function filters_orders_and_counts(project) {
  const client = service(project)
  const names = async (query) => ok(await query).map((row) => row.nicename ?? row.title ?? row.room_name ?? row.name)
  const countries = () => client.from('countries').select('nicename').order('id')
  assert.deepEqual(await names(countries().eq('iso', 'FR')), ['France'])
  assert.deepEqual(await names(countries().neq('id', 1).lt('id', 4)), ['Albania', 'Algeria'])
  assert.deepEqual(await names(countries().or('iso.eq.DE,and(phonecode.gt.300,iso3.like.A*)')), ['Albania', 'Germany'])
  assert.deepEqual(await names(countries().is('numcode', null)), ['Antarctica'])
  assert.deepEqual(await names(countries().not('iso3', 'in', '(AFG,ALB,DZA)')), ['France', 'Germany'])
  assert.deepEqual(await names(countries().ilike('nicename', 'al%')), ['Albania', 'Algeria'])
  assert.deepEqual(await names(countries().likeAnyOf('nicename', ['F%', 'G%'])), ['France', 'Germany'])
  assert.deepEqual(await names(countries().match({ iso: 'DE', phonecode: 49 })), ['Germany'])
  assert.deepEqual(await names(countries().textSearch('nicename', 'france | germany')), ['France', 'Germany'])
  assert.deepEqual(await names(countries().range(1, 2)), ['Albania', 'Algeria'])
  const issues = () => client.from('issues').select('title').order('id')
  assert.equal(ok(await issues().contains('tags', ['is:open', 'priority:low'])).length, 1)
  assert.equal(ok(await issues().containedBy('tags', ['is:closed', 'is:open', 'severity:high', 'priority:low'])).length, 3)
  assert.equal(ok(await issues().overlaps('tags', ['is:closed', 'severity:high'])).length, 3)
  const rooms = () => client.from('reservations').select('room_name')
  assert.deepEqual(await names(rooms().rangeLt('during', '[2000-01-02, 2000-01-03)')), ['Emerald'])
  assert.deepEqual(await names(rooms().rangeGt('during', '[2000-01-01, 2000-01-02)')), ['Topaz'])
  assert.deepEqual(await names(rooms().rangeAdjacent('during', '[2000-01-01 15:00, 2000-01-01 16:00)')), ['Emerald'])
  const counted = await client.from('countries').select('*', { count: 'exact', head: true })
  assert.deepEqual([counted.count, counted.data], [6, null])
  const jsonPath = ok(await client.from('cities').select('name, people:data->population').eq('data->>population', '2'))
  assert.deepEqual(jsonPath, [{ name: 'Paris', people: 2 }])
  assert.equal(ok(await client.rpc('list_stored_countries')).length, 6)
  assert.deepEqual(await names(client.rpc('search_countries_by_name', { search_name: 'an' }).order('id').limit(2)), [
    'Afghanistan',
    'Albania',
  ])
  const one = await client.from('countries').select().single()
  assert.deepEqual([one.status, one.error.code], [406, 'PGRST116'])
}
