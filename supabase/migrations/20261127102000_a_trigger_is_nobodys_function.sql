-- A function that only a trigger calls is for nobody else.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

revoke execute on function public.cf_keep_status_changes() from public, anon, authenticated;
