# SPDX-License-Identifier: BSD-2-Clause
# The package of Nix, built from the checkout that this file is in:
#     nix-build --expr '(import <nixpkgs> { }).callPackage ./packaging/tpm2-abrmd.nix { }'
# On NixOS, services.dbus.packages and systemd.packages make its bus policy and units known.
{
  lib,
  stdenv,
  cmocka,
  glib,
  json-glib,
  libtpms,
  meson,
  ncurses,
  ninja,
  openssl,
  pkg-config,
  python3,
  swtpm,
  tpm2-tss,
}:

stdenv.mkDerivation (finalAttrs: {
  pname = "tpm2-abrmd";
  version = "4.0.0";

  # Build directories of a checkout are not source.
  src = lib.cleanSourceWith {
    src = lib.cleanSource ../.;
    filter = path: type: type != "directory" || builtins.match "build.*" (baseNameOf path) == null;
  };

  # Clients need only the library, and the library needs only libc.
  outputs = [
    "out"
    "lib"
    "dev"
    "man"
  ];

  # glib has gdbus-codegen.
  nativeBuildInputs = [
    glib
    meson
    ninja
    pkg-config
  ];
  buildInputs = [
    glib
    json-glib
    libtpms
    ncurses
    tpm2-tss
  ];
  nativeCheckInputs = [
    python3
    swtpm
  ];
  checkInputs = [
    cmocka
    openssl
  ];

  mesonFlags = [
    (lib.mesonEnable "ctl" true)
    (lib.mesonEnable "libtpms" true)
    (lib.mesonEnable "tests" finalAttrs.finalPackage.doCheck)
    # The helper belongs to the daemon; nixpkgs would put it beside the library.
    "--libexecdir=${placeholder "out"}/libexec"
  ];

  # Nobody has run the tests below Nix yet.
  doCheck = false;
  mesonCheckFlags = [
    "--suite"
    "unit"
    "--timeout-multiplier"
    "5"
  ];
  postPatch = ''
    patchShebangs src test
  '';

  meta = {
    description = "TPM 2.0 access broker and resource manager";
    license = lib.licenses.bsd2;
    platforms = lib.platforms.linux;
    mainProgram = "tpm2-abrmd";
  };
})
