# SPDX-License-Identifier: 0BSD
# Takes the Pico SDK from PICO_SDK_PATH; the file of this name in the SDK may stand here instead.
if(NOT PICO_SDK_PATH)
  set(PICO_SDK_PATH "$ENV{PICO_SDK_PATH}")
endif()
if(NOT EXISTS "${PICO_SDK_PATH}/pico_sdk_init.cmake")
  message(FATAL_ERROR "PICO_SDK_PATH is to be the folder of the Pico SDK")
endif()
include("${PICO_SDK_PATH}/pico_sdk_init.cmake")
