// Suite E's authentication, and what suites B and C need of it.

import assert from 'node:assert/strict'
import { PASSWORD, connect, ok, service, signedUp, unique } from './client.mjs'

export async function signs_up_in_and_out(project) {
  const { client, email, session, user } = await signedUp(project, { data: { nickname: 'Ada' } })
  assert.equal(session.token_type, 'bearer')
  assert.equal(session.expires_in, 3600)
  assert.equal(user.user_metadata.nickname, 'Ada')
  ok(await client.auth.signOut())
  assert.equal((await client.auth.getSession()).data.session, null)
  const { user: again } = ok(await client.auth.signInWithPassword({ email, password: PASSWORD }))
  assert.equal(again.id, user.id)
  assert.equal(ok(await client.auth.getUser()).user.email, email)
  assert.equal(ok(await client.auth.getClaims()).claims.sub, user.id)
}

export async function renews_its_session(project) {
  const { client, session } = await signedUp(project)
  const changes = []
  client.auth.onAuthStateChange((event) => changes.push(event))
  const { session: renewed } = ok(await client.auth.refreshSession())
  assert.notEqual(renewed.refresh_token, session.refresh_token)
  assert.ok(changes.includes('TOKEN_REFRESHED'))
  const elsewhere = connect(project)
  const restored = ok(await elsewhere.auth.setSession(renewed))
  assert.equal(restored.user.id, session.user.id)
}

export async function is_told_why_it_is_refused(project) {
  const { client, email } = await signedUp(project)
  const stranger = connect(project)
  const wrong = await stranger.auth.signInWithPassword({ email, password: 'not this one' })
  assert.equal(wrong.error.code, 'invalid_credentials')
  assert.equal(wrong.error.message, 'Invalid login credentials')
  const weak = await stranger.auth.signUp({ email: `${unique()}@example.com`, password: 'short' })
  assert.equal(weak.error.name, 'AuthWeakPasswordError')
  assert.deepEqual(weak.error.reasons, ['length'])
  const taken = await stranger.auth.signUp({ email, password: PASSWORD })
  assert.equal(taken.error.code, 'user_already_exists')
  assert.equal((await stranger.auth.signInAnonymously()).error.code, 'anonymous_provider_disabled')
  assert.equal((await stranger.auth.signInWithOtp({ email })).error.code, 'not_supported')
  assert.equal((await client.auth.admin.listUsers()).error.code, 'not_admin')
}

export async function changes_its_user(project) {
  const { client, user } = await signedUp(project)
  const changed = ok(await client.auth.updateUser({ data: { theme: 'dark' } }))
  assert.equal(changed.user.user_metadata.theme, 'dark')
  assert.equal((await client.auth.updateUser({ password: PASSWORD })).error.code, 'same_password')
  ok(await client.auth.updateUser({ password: 'quite another one' }))
  const elsewhere = connect(project)
  ok(await elsewhere.auth.signInWithPassword({ email: user.email, password: 'quite another one' }))
}

export async function administers_users(project) {
  const admin = service(project).auth.admin
  const email = `${unique('admin')}@example.com`
  const { user } = ok(
    await admin.createUser({ email, password: PASSWORD, email_confirm: true, app_metadata: { role: 'x' } }),
  )
  assert.equal(user.app_metadata.role, 'x')
  const listed = ok(await admin.listUsers({ page: 1, perPage: 1 }))
  assert.equal(listed.users.length, 1)
  assert.ok(listed.total >= 1)
  ok(await admin.updateUserById(user.id, { user_metadata: { seen: true } }))
  assert.equal(ok(await admin.getUserById(user.id)).user.user_metadata.seen, true)
  const { session } = ok(await connect(project).auth.signInWithPassword({ email, password: PASSWORD }))
  ok(await admin.signOut(session.access_token))
  assert.equal((await connect(project).auth.getUser(session.access_token)).error.name, 'AuthSessionMissingError')
  ok(await admin.deleteUser(user.id))
  assert.equal((await admin.getUserById(user.id)).error.code, 'user_not_found')
}
