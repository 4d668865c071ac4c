-- The registry of devices: what is polled over SSH, and how to get in.
--
-- No secret is ever in it: a password, or a key's passphrase, is named by where the collector finds it, and the constraints
-- refuse anything else. Viewers see which devices there are; how to get in is for the service role alone.

create table public.cf_devices (
  device text primary key check (device ~ '^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$'),
  host text not null check (host <> ''),
  port int not null default 22 check (port between 1 and 65535),
  username text not null check (username <> ''),
  key_file text,
  passphrase_from text check (passphrase_from ~ '^(env|file):.+$'),
  agent boolean not null default false,
  password_from text check (password_from ~ '^(env|file):.+$'),
  jump text references public.cf_devices (device) on update cascade deferrable initially deferred check (jump <> device),
  monitoring_enabled boolean not null default true,
  container_interval double precision check (container_interval between 1 and 604800),
  system_interval double precision check (system_interval between 1 and 604800),
  drive_interval double precision check (drive_interval between 1 and 604800),
  description text,
  host_key text,
  host_key_stored_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  check (key_file is not null or agent or password_from is not null),
  check (key_file is not null or passphrase_from is null)
);
comment on table public.cf_devices is
  'One row a device that is polled over SSH, or that is the way to one (jump). Intervals are seconds; null is the
installation''s own. host_key is what the device has to show; null until it was seen first.';
create index cf_devices_jump on public.cf_devices (jump) where jump is not null;

create function public.cf_devices_touch() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := pg_catalog.now();
  if new.host_key is distinct from old.host_key then
    new.host_key_stored_at := case when new.host_key is not null then pg_catalog.now() end;
  end if;
  return new;
end $$;

create trigger cf_devices_touch before update on public.cf_devices
for each row execute function public.cf_devices_touch();

alter table public.cf_devices enable row level security;
revoke all on public.cf_devices from anon, authenticated;
grant select, insert, update, delete on public.cf_devices to service_role;
grant select (device, host, port, monitoring_enabled, container_interval, system_interval, drive_interval, description,
  created_at, updated_at) on public.cf_devices to authenticated;
create policy cf_readers on public.cf_devices for select to authenticated using ((select public.cf_is_reader()));

revoke execute on function public.cf_devices_touch() from public, anon, authenticated;
grant execute on function public.cf_devices_touch() to service_role;
